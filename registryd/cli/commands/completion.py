"""``completion``: what makes a shell complete the words of registryctl.

The scripts ask the program itself, so that they never have to be renewed: words, flags, their
values and the names of the images in the cache.
"""

from __future__ import annotations

from contextlib import suppress

from cache.errors import Fault
from registryd.cli.arguments import Parser
from registryd.cli.command import Context

#: Where the scripts put the line as far as it is typed.
LINE = "REGISTRYCTL_LINE"

BASH = """\
# registryctl completion for bash:  source <(registryctl completion bash)
_registryctl() {
    local line="${COMP_LINE:0:COMP_POINT}" current found
    current="${line##*[[:space:]]}"
    mapfile -t found < <(REGISTRYCTL_LINE="$line" registryctl completion words 2>/dev/null)
    if [[ "${found[0]}" == ":files" ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "${current##*=}")
        compopt -o filenames 2>/dev/null
        return
    fi
    # Readline takes what stands after the last of these signs for the word.
    local sign prefix kept=""
    for sign in = :; do
        if [[ "$COMP_WORDBREAKS" == *"$sign"* && "$current" == *"$sign"* ]]; then
            prefix="${current%"${current##*"$sign"}"}"
            (( ${#prefix} > ${#kept} )) && kept="$prefix"
        fi
    done
    COMPREPLY=("${found[@]#"$kept"}")
}
complete -F _registryctl registryctl
"""
ZSH = """\
#compdef registryctl
# registryctl completion for zsh:  source <(registryctl completion zsh)
_registryctl() {
    local -a found
    local line="${(j: :)words[1,CURRENT]}"
    found=("${(@f)$(REGISTRYCTL_LINE="$line" registryctl completion words 2>/dev/null)}")
    if [[ "${found[1]}" == ":files" ]]; then
        compset -P '*='
        _files
    elif [[ -n "${found[1]}" ]]; then
        compadd -a found
    fi
}
(( $+functions[compdef] )) && compdef _registryctl registryctl
"""
FISH = """\
# registryctl completion for fish:  registryctl completion fish | source
function __registryctl_words
    set -lx REGISTRYCTL_LINE (commandline -cp | string collect)
    set -l found (registryctl completion words 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c registryctl -f -a '(__registryctl_words)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("shell", metavar="bash|zsh|fish", choices=(*SCRIPTS, "words"))


def run(context: Context) -> None:
    """Print the script; or the words that the line in the environment could go on with."""
    if context.options.shell in SCRIPTS:
        script = SCRIPTS[context.options.shell]
        if context.options.format == "json":
            context.console.json({"shell": context.options.shell, "script": script})
        else:
            context.console.text(script.rstrip("\n"))
        return
    from registryd.cli.command_tree import read
    from registryd.cli.completing import candidates
    from registryd.cli.main import top_parser

    line = context.environ.get(LINE, "")
    found = candidates(line, read(top_parser()), lambda: _names(context))
    if context.options.format == "json":
        context.console.json({"words": found})
        return
    for word in found:
        context.console.line(word)


def _names(context: Context) -> list[str]:
    """The images in the cache as people may write them; none where that cannot be asked now."""
    from registryd.cli.backend import backend
    from registryd.oci.reference import Reference

    with suppress(Fault), backend(context) as chosen:
        images = chosen.call("images", {}).get("images", [])
        found = [str(image["reference"]) for image in images if image.get("tag")]
        return [*found, *(Reference.parse(name).familiar() for name in found)]
    return []
