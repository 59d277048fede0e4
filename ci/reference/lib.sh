# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Sourced by the files of ci/reference: the field's tool and ours in turns,
# and the ratio of the two judged by our own engine.
#
#   reference NAME LOW HIGH TURNS OURS THEIRS
#
# OURS and THEIRS are functions that print one number, higher is better; a
# LOW of 0.98 and HIGH of 1.02 ask for agreement within 2 %, an empty HIGH for
# no upper limit. Both run in every turn, in an order that alternates (ours
# theirs theirs ours), so that drift hits both alike. Prints one row: median
# of ours and of theirs, ratio with its 95 % interval over turns, verdict.
#
# A row is a MISS when the interval lies outside [LOW, HIGH], OPEN when it
# reaches across a limit, else ok. `missed` counts the first two.

: "${CVB:=$PWD/build/cvmbench}"
: "${TURNS:=7}"
missed=0

# Print a reason, and skip what this file measures: the tool is not there.
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || {
            printf '%-34s %s\n' "$(basename "$0")" "left out: $tool is not installed"
            exit 0
        }
    done
}

median_of() {
    sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

reference_head() {
    printf '%-34s %12s %12s %8s  %-17s %-12s %s\n' \
        REFERENCE OURS THEIRS RATIO '95 % INTERVAL' WANTED VERDICT
}

reference() {
    local name=$1 low=$2 high=$3 turns=$4 ours=$5 theirs=$6 i a b csv
    csv=$(mktemp)
    echo session,round,base,test >"$csv"
    for ((i = 1; i <= turns; i++)); do
        if ((i % 2)); then
            a=$($ours) && b=$($theirs) || return 1
        else
            b=$($theirs) && a=$($ours) || return 1
        fi
        if [ -z "$a" ] || [ -z "$b" ]; then
            echo "$name: no number in turn $i (ours \"$a\", theirs \"$b\")" >&2
            return 1
        fi
        echo "$i,1,$b,$a" >>"$csv"
    done
    "$CVB" stats ratio --margin "$low" --better higher <"$csv" >"$csv.json" || [ $? -le 5 ]
    jq -r --arg name "$name" --arg low "$low" --arg high "$high" \
        --arg ours "$(tail -n +2 "$csv" | cut -d, -f4 | median_of)" \
        --arg theirs "$(tail -n +2 "$csv" | cut -d, -f3 | median_of)" '
        def si: tonumber as $v | if $v >= 1e9 then "\($v / 1e7 | round / 100) G"
            elif $v >= 1e6 then "\($v / 1e4 | round / 100) M"
            elif $v >= 1e3 then "\($v / 10 | round / 100) k" else "\($v * 1000 | round / 1000) " end;
        def f: . * 1000 | round / 1000;
        ($low | tonumber) as $l | (if $high == "" then infinite else ($high | tonumber) end) as $h |
        (if .lower == null then "OPEN"
         elif .upper < $l or .lower > $h then "MISS"
         elif .lower >= $l and .upper <= $h then "ok"
         else "OPEN" end) as $v |
        [$name, ($ours | si), ($theirs | si), (.ratio | f),
         "\(.lower // 0 | f) to \(.upper // 0 | f)",
         (if $high == "" then ">= \($low)" else "\($low) to \($high)" end), $v] | @tsv' \
        "$csv.json" >"$csv.row"
    awk -F '\t' '{ printf "%-34s %12s %12s %8s  %-17s %-12s %s\n", $1, $2, $3, $4, $5, $6, $7 }' "$csv.row"
    grep -q 'ok$' "$csv.row" || missed=$((missed + 1))
    rm -f "$csv" "$csv.json" "$csv.row"
}
