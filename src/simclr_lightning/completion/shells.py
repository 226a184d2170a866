"""What a shell has to be told once, so that it asks ``simclr`` how words go on."""

from __future__ import annotations

from typing import Literal

BASH = """\
_simclr() {
  COMPREPLY=()
  local word
  while IFS= read -r word; do
    COMPREPLY+=("$word")
  done < <("${COMP_WORDS[0]}" completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _simclr simclr
"""
ZSH = """\
#compdef simclr
_simclr() {
  local -a found
  found=(${(f)"$("${words[1]}" completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( $#found )); then compadd -a found; else _files; fi
}
if [ "$funcstack[1]" = "_simclr" ]; then _simclr "$@"; else compdef _simclr simclr; fi
"""
FISH = """\
function __simclr_words
  set -l typed (commandline -opc) (commandline -ct)
  set -l found ($typed[1] completion words $typed[2..-1] 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c simclr -f -a '(__simclr_words)'
"""


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print what completes the words of ``simclr`` in a shell: commands, options, recipes, encoders, losses.

    Args:
        shell: bash (``source <(simclr completion bash)`` in ~/.bashrc), zsh (the same in ~/.zshrc, below compinit) or
            fish (``simclr completion fish | source`` in ~/.config/fish/config.fish).

    Example:
        >>> completion("bash")  # doctest: +ELLIPSIS
        _simclr() {
        ...
    """
    print({"bash": BASH, "zsh": ZSH, "fish": FISH}[shell], end="")
