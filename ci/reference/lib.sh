# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Sourced by the files of ci/reference: the field's tool and ours in turns,
# and the ratio of the two judged by our own engine.
#
#   reference NAME LOW HIGH OURS THEIRS
#
# OURS and THEIRS are functions that print one number, higher is better; a
# LOW of 0.98 and HIGH of 1.02 ask for agreement within 2 %, an empty HIGH for
# no upper limit. Both run in every turn, in an order that alternates (ours
# theirs theirs ours), so that drift hits both alike.
#
# Turns are added until the ratio is decided, at most TURNS of them: it is
# looked at after 7, 15, 30, 60 and 120 turns, with bounds of error .05 divided
# by the number of looks (Bonferroni), so that all the looks together decide
# wrongly in no more than 5 % of the rows whose ratio lies at a limit. Prints
# one row: median of ours and of theirs, the ratio
# with its bounds, the turns it took, verdict.
#
# A row is a MISS when both bounds lie beyond a limit, ok when both lie within,
# OPEN when TURNS turns did not decide. `missed` counts the MISSes and OPENs.

: "${CVB:=$PWD/build/cvmbench}"
: "${TURNS:=60}"
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
    printf '%-34s %10s %10s %7s  %-16s %5s  %-12s %s\n' \
        REFERENCE OURS THEIRS RATIO BOUNDS TURNS WANTED VERDICT
}

# One row of numbers for a turn: session, round, theirs, ours.
take_turn() { # TURN OURS THEIRS
    local a b
    if (($1 % 2)); then
        a=$($2) && b=$($3) || return 1
    else
        b=$($3) && a=$($2) || return 1
    fi
    if [ -z "$a" ] || [ -z "$b" ]; then
        echo "no number in turn $1 (ours \"$a\", theirs \"$b\")" >&2
        return 1
    fi
    echo "$1,1,$b,$a"
}

# The numbers of file $1 judged with bounds of error $4: name, medians, ratio,
# bounds, turns, verdict, as columns.
judge() { # CSV LOW HIGH ALPHA
    "$CVB" stats ratio --margin "$2" --better higher --alpha "$4" <"$1" >"$1.json" || [ $? -le 5 ] || return 1
    jq -r --arg low "$2" --arg high "$3" \
        --arg ours "$(tail -n +2 "$1" | cut -d, -f4 | median_of)" \
        --arg theirs "$(tail -n +2 "$1" | cut -d, -f3 | median_of)" \
        --arg turns "$(($(wc -l <"$1") - 1))" '
        def si: tonumber as $v | if $v >= 1e9 then "\($v / 1e7 | round / 100) G"
            elif $v >= 1e6 then "\($v / 1e4 | round / 100) M"
            elif $v >= 1e3 then "\($v / 10 | round / 100) k" else "\($v * 1000 | round / 1000) " end;
        def f: . * 1000 | round / 1000;
        ($low | tonumber) as $l | (if $high == "" then infinite else ($high | tonumber) end) as $h |
        (if .lower == null then "OPEN"
         elif .upper < $l or .lower > $h then "MISS"
         elif .lower >= $l and .upper <= $h then "ok"
         else "OPEN" end) as $v |
        [($ours | si), ($theirs | si), (.ratio | f),
         "\(.lower // 0 | f) to \(.upper // 0 | f)", $turns,
         (if $high == "" then ">= \($low)" else "\($low) to \($high)" end), $v] | @tsv' "$1.json"
}

reference() {
    local name=$1 low=$2 high=$3 ours=$4 theirs=$5 turn=0 look looks=() alpha csv row
    for look in 7 15 30 60 120; do
        ((look >= TURNS)) || looks+=("$look")
    done
    looks+=("$TURNS")
    alpha=$(awk -v looks=${#looks[@]} 'BEGIN { print .05 / looks }')
    csv=$(mktemp)
    echo session,round,base,test >"$csv"
    for look in "${looks[@]}"; do
        while ((turn < look)); do
            turn=$((turn + 1))
            take_turn "$turn" "$ours" "$theirs" >>"$csv" || {
                echo "$name: turn $turn failed" >&2
                return 1
            }
        done
        row=$(judge "$csv" "$low" "$high" "$alpha") || return 1
        [[ $row == *OPEN ]] || break
    done
    awk -F '\t' -v name="$name" '{ printf "%-34s %10s %10s %7s  %-16s %5s  %-12s %s\n", name, $1, $2, $3, $4, $5, $6, $7 }' <<<"$row"
    [[ $row == *ok ]] || missed=$((missed + 1))
    rm -f "$csv" "$csv.json"
}
