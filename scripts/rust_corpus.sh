#!/usr/bin/env bash
# The Rust text of the production guide: every .rs file of tokio, serde and clap at pinned tags.
#
#   scripts/rust_corpus.sh [--output DIR] [--tokenizer FILE|DIR] [--repo NAME=SOURCE@TAG]...
#
# SOURCE is a URL or a local git repository. With --repo, only those that are named are used.
# Writes DIR/rust.jsonl for `trainer prepare-data --text`, DIR/corpus.json with the commit, licence
# and counts of each repository, and their licence files under DIR/licences.
# A clone that is there is used again, so an interrupted run continues.
set -euo pipefail

defaults=(
    "tokio=https://github.com/tokio-rs/tokio@tokio-1.45.1"
    "serde=https://github.com/serde-rs/serde@v1.0.219"
    "clap=https://github.com/clap-rs/clap@v4.5.40"
)
output=data/rust
tokenizer=
repos=()

complain() {
    echo "rust_corpus.sh: $1" >&2
    exit "${2:-2}"
}

while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0"
        exit 0
        ;;
    --output | --tokenizer | --repo)
        [ $# -gt 1 ] && [ -n "$2" ] || complain "$1 needs a value; see --help."
        case $1 in
        --output) output=$2 ;;
        --tokenizer) tokenizer=$2 ;;
        --repo) repos+=("$2") ;;
        esac
        shift 2
        ;;
    *) complain "there is no option $1; see --help." ;;
    esac
done
[ ${#repos[@]} -gt 0 ] || repos=("${defaults[@]}")

python=${PYTHON:-}
if [ -z "$python" ]; then
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    python=python3
    [ -x "$here/.venv/bin/python" ] && python=$here/.venv/bin/python
fi
command -v git >/dev/null || complain "git is not installed; install it, it fetches the sources."
"$python" -c "import trainer.tasks" 2>/dev/null ||
    complain "$python has no trainer package; set PYTHON to the interpreter that has it."

export GIT_TERMINAL_PROMPT=0 # a private or wrong address fails, and asks nobody
mkdir -p "$output/.sources"
checkouts=()
for repo in "${repos[@]}"; do
    [[ $repo =~ ^([A-Za-z0-9_.-]+)=(.+)@([^@]+)$ ]] && [[ ${BASH_REMATCH[1]} != .* ]] ||
        complain "--repo $repo is not NAME=SOURCE@TAG."
    name=${BASH_REMATCH[1]} source=${BASH_REMATCH[2]} tag=${BASH_REMATCH[3]}
    place=$output/.sources/$name@${tag//\//_}
    if [ ! -d "$place" ]; then
        [ -d "$source" ] && source=file://$(cd "$source" && pwd) # so that --depth counts
        echo "cloning $name at $tag from $source" >&2
        rm -rf "$place.part"
        if ! git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$tag" -- \
            "$source" "$place.part"; then
            rm -rf "$place.part"
            complain "cannot clone $source at $tag: check the network, the address and the tag, or
give a local repository: --repo $name=DIR@$tag." 1
        fi
        mv "$place.part" "$place"
    fi
    checkouts+=("$name=$place")
done

exec "$python" -m trainer.tasks.rust_corpus --output "$output" ${tokenizer:+--tokenizer "$tokenizer"} \
    "${checkouts[@]}"
