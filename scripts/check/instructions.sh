#!/usr/bin/env bash
# Counts the instructions that an item costs at each step, and fails unless they are the recorded ones of
# scripts/check/instructions.txt, within its tolerance.
#
#   scripts/check/instructions.sh              counts and compares
#   scripts/check/instructions.sh --record     counts and writes the figures, after a change that was meant to change them
#
# The steps are:
#
#   check        a request is validated
#   rows         a journaled request becomes rows of COPY
#   validated    the same for a request that has to be validated again
#   request      a request of 500 spans, from the socket to the answer, on one thread, with a journal on this disk
#   one-span     the same for a request of one span
#
# Each figure is the difference between 2N and N repetitions, divided by the items: what a process does once does not count. Our
# own code is optimised as in a release and the libraries as in the tests, so that the program is built quickly: the figures are
# for comparison with each other only. Needs Rust, valgrind and Python.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
cd "$root"

case ${1:-} in '' | --record) ;; *) usage ;; esac
needs cargo valgrind python3

figures=scripts/check/instructions.txt
compiler="$(rustc --version | cut -d ' ' -f 1,2) $(uname -m)"
recorded_by=$(sed -n 's/^# compiler //p' "$figures")
# The libraries are those of the test run. Our own code is optimised as in a release.
optimised=()
for each in 'opt-level=3' 'debug-assertions=false' 'overflow-checks=false' 'codegen-units=1'; do
    optimised+=(--config "profile.dev.package.ruvvector-service.$each")
done
CARGO_INCREMENTAL=0 cargo build --quiet --example instructions "${optimised[@]}"
program=target/debug/examples/instructions
temporary_directory instructions

# instructions NAME REPETITIONS: prints how many instructions the program needs.
instructions() {
    local out=$dir/$1-$2
    python3 scripts/bench/under_valgrind.py valgrind --tool=callgrind --callgrind-out-file="$out" "$program" "$1" "$2" \
        2>"$out.err" || fail "callgrind failed on $1: $(tail -n 3 "$out.err")"
    awk '/^(summary|totals):/ { print $2; exit }' "$out"
}

# per_item NAME: prints the instructions of each item.
per_item() {
    local few many repetitions=5 items=500
    case $1 in
    *-events) items=100 ;;
    request) repetitions=20 ;;
    one-span) repetitions=100 items=1 ;;
    esac
    few=$(instructions "$1" $repetitions)
    many=$(instructions "$1" $((2 * repetitions)))
    echo $(((many - few) / (repetitions * items)))
}

failed=0
while read -r name recorded tolerance; do
    case $name in
    '#' | '') continue ;;
    esac
    counted=$(per_item "$name")
    change=$(awk -v counted="$counted" -v recorded="$recorded" 'BEGIN { printf "%+.1f", (counted / recorded - 1) * 100 }')
    printf '%-16s %7d instructions an item, recorded %7d: %s %%\n' "$name" "$counted" "$recorded" "$change"
    printf '%s %s %s\n' "$name" "$counted" "$tolerance" >>"$dir/counted"
    awk -v change="$change" -v tolerance="$tolerance" 'BEGIN { exit !(change > tolerance || change < -tolerance) }' && failed=1
done <"$figures"

if [ "${1:-}" = --record ]; then
    {
        head -n 1 "$figures"
        printf '# compiler %s\n' "$compiler"
        cat "$dir/counted"
    } >"$dir/figures"
    cp "$dir/figures" "$figures"
elif [ "$failed" = 1 ]; then
    [ "$compiler" = "$recorded_by" ] ||
        fail "the figures were recorded with $recorded_by, and this is $compiler: compare with the commit before, built by the same compiler"
    fail "instructions differ from $figures by more than its tolerance; if that is meant, run $0 --record and commit the figures"
fi
