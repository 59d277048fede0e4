#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The verb stats: verdicts as exit codes, bad input as errors with line and field.

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
}

# Six sessions of three rounds; test is base times the factor, give or take .1 %.
table() {
    awk -v f="$1" 'BEGIN { print "session,round,base,test"
        for (s = 1; s <= 6; s++) for (r = 1; r <= 3; r++)
            printf "s%d,%d,%d,%.9g\n", s, r, 100 + r, (100 + r) * f * (1 + (s % 3 - 1) / 1000) }'
}

ratio() {
    run --separate-stderr "$CVB" stats ratio "${@:2}" <<<"$1"
}

@test "ratio answers one gate and its verdict is the exit code" {
    ratio "$(table 1)" --margin .99
    [ "$status" -eq 0 ]
    jq -e '.verdict == "PASS" and .sessions == 6 and .rounds == 18 and .pairing == "pair"
        and .lower < 1 and .upper > 1 and .method == "t+signed-rank"' <<<"$output"
    ratio "$(table .97)" --margin .99
    [ "$status" -eq 1 ]
    ratio "$(table .97)" --margin .99 --better lower
    [ "$status" -eq 0 ]
    ratio "$(table .99)" --margin .99
    [ "$status" -eq 3 ]
    ratio "$(table 1.02)" --margin .99 --kind equivalence
    [ "$status" -eq 1 ]
    ratio "$(table 1)" --kind absolute --limit 100
    [ "$status" -eq 0 ]
    ratio "$(table 1)" --looks 6,10,16,24
    jq -e '.alpha == 0.0175 and .look == 1' <<<"$output"
}

@test "columns in any order, CRLF, blank lines and any labels" {
    a=$(table 1)
    b=$(awk -F, '{ printf "%s,%s,%s,%s\r\n", $4, $1, $3, $2 } END { print "\r" }' <<<"$a")
    ratio "$a"
    first=$output
    ratio "$b"
    [ "$output" == "$first" ]
}

@test "one session and a constant series have no interval" {
    ratio $'session,round,base,test\n1,1,5,5\n1,2,5,6'
    [ "$status" -eq 3 ]
    jq -e '.lower == null and .upper == null and (.reason | test("one session"))' <<<"$output"
    ratio $'session,round,base,test\n1,1,5,5\n2,1,5,5\n3,1,5,5'
    [ "$status" -eq 3 ]
    jq -e '.lower == null and (.reason | test("resolution"))' <<<"$output"
}

@test "bad input exits 2 and names line and field" {
    head=session,round,base,test
    for bad in nan inf -inf 0 -1 abc 1e999; do
        ratio "$head"$'\n1,1,5,5\n1,2,5,'$bad
        [ "$status" -eq 2 ]
        [[ "$stderr" == *stdin:3:\ test* ]]
        [ -z "$output" ]
    done
    ratio "$head"$'\n1,1,,5'
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"stdin:2: base is empty"* ]]
    ratio "$head"$'\n1,1,5'
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"stdin:2: 3 fields"* ]]
    ratio $'session,round,bse,test\n1,1,5,5'
    [ "$status" -eq 2 ]
    [[ "$stderr" == *'column 3: "bse"'* ]]
    ratio $'session,base,test\n1,5,5'
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"column round is missing"* ]]
    ratio "$head"
    [ "$status" -eq 2 ]
    ratio ""
    [ "$status" -eq 2 ]
    run -2 --separate-stderr "$CVB" stats rato </dev/null
    [[ "$stderr" == *"did you mean ratio?"* ]]
}

@test "describe" {
    run -0 --separate-stderr "$CVB" stats describe <<<$'1\n2\n3\n4\n5'
    jq -e '.n == 5 and .mean == 3 and .median == 3 and .mad == 1 and .lag1 == 0.4' <<<"$output"
    run -2 --separate-stderr "$CVB" stats describe <<<$'1\nx'
    [[ "$stderr" == *"stdin:2: value"* ]]
    run -0 --separate-stderr "$CVB" stats describe <<<7
    jq -e '.n == 1 and .sd == null' <<<"$output"
}

@test "describe: values of any magnitude; a spread that no number holds is an error" {
    run -0 --separate-stderr "$CVB" stats describe <<<$'1e300\n2e300\n3e300'
    jq -e '.mean == 2e300 and (.sd / 1e300 - 1 | fabs) < 1e-12' <<<"$output"
    run -0 --separate-stderr "$CVB" stats describe <<<$'1e-310\n2e-310\n3e-310'
    jq -e '.mean > 1.9e-310 and .sd > .9e-310 and .lag1 == 0' <<<"$output"
    run -2 --separate-stderr "$CVB" stats describe <<<$'-1.7e308\n1.7e308'
    [[ "$stderr" == *spread* ]]
}

@test "hexadecimal numbers are refused" {
    run -2 --separate-stderr "$CVB" stats describe <<<$'1\n0x10'
    [[ "$stderr" == *'stdin:2: value: "0x10" is not a number'* ]]
    run -2 --separate-stderr "$CVB" stats changepoint <<<0x10
    [[ "$stderr" == *'stdin:1: "0x10" is not a number'* ]]
    ratio $'session,round,base,test\n1,1,0x1p3,5'
    [ "$status" -eq 2 ]
    ratio "$(table 1)" --margin 0x1
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"expected a number"* ]]
}

@test "names that are no UTF-8 are refused" {
    for option in --id --metric; do
        ratio "$(table 1)" "$option" $'a\xff'
        [ "$status" -eq 2 ]
        [[ "$stderr" == *"$option: expected UTF-8"* ]]
        [ -z "$output" ]
    done
    ratio "$(table 1)" --id ä
    jq -e '.id == "ä"' <<<"$output"
}

@test "a round of a session is there once" {
    ratio $'session,round,base,test\n1,1,5,5\n1,2,5,5\n2,1,5,5\n2,1,5,5\n1,1,5,5'
    [ "$status" -eq 2 ]
    [[ "$stderr" == *'stdin:5: session "2", round "1" is there twice: first in line 4'* ]]
    ratio $'session,round,base,test\n1,1,5,5\n\n1,1,6,6'
    [ "$status" -eq 2 ]
    [[ "$stderr" == *'stdin:4: session "1", round "1"'*"line 2"* ]]
}

@test "looks count sessions by rising number, other labels as they come" {
    # sessions 1 to 6 lose 3 %, 7 to 10 gain 3 %: at the first look it is a FAIL
    rows=$(awk 'BEGIN { for (s = 10; s; s--) for (r = 1; r <= 3; r++)
        printf "%d,%d,%d,%.9g\n", s, r, 100 + r,
            (100 + r) * (s <= 6 ? .97 : 1.03) * (1 + (s % 3 - 1) / 1000) }')
    ratio "session,round,base,test"$'\n'"$rows" --looks 6,10
    [ "$status" -eq 1 ]
    jq -e '.look == 1 and .sessions == 6 and .ratio < .98' <<<"$output"
    # sessions named in the order of the rows: the gain is seen first
    ratio "session,round,base,test"$'\n'"$(sed 's/^/s/' <<<"$rows")" --looks 6,10
    jq -e '.look != 1' <<<"$output"
    run -0 "$CVB" stats --help
    [[ "$output" == *"by rising number"* ]]
    [[ "$output" == *".0175"*".012"* ]]
}

@test "an answer that cannot be written is exit 6, whatever the verdict" {
    for factor in 1 .97; do
        table "$factor" >in.csv
        run -6 --separate-stderr bash -c '"$0" stats ratio <in.csv >/dev/full' "$CVB"
        [[ "$stderr" == *"cannot write to standard output: No space left"* ]]
    done
    for args in --help --version "help stats" "list benches"; do
        # shellcheck disable=SC2086
        run -6 --separate-stderr bash -c '"$0" "$@" >/dev/full' "$CVB" $args
        [[ "$stderr" == *"cannot write to standard output"* ]]
    done
}

@test "a NUL byte or an endless line is refused, not cut off" {
    run -2 --separate-stderr "$CVB" stats describe < <(printf '1\n2\0003\n4\n')
    [[ "$stderr" == *"stdin:2: there is a NUL byte"* ]]
    [ -z "$output" ]
    run -2 --separate-stderr "$CVB" stats changepoint < <(printf '1\n2\n3\0\n')
    [[ "$stderr" == *"stdin:3: there is a NUL byte"* ]]
    run -2 --separate-stderr "$CVB" stats ratio \
        < <(printf 'session,round,base,test\n1,1,5,5\0,9\n2,1,5,5\n')
    [[ "$stderr" == *"stdin:2: there is a NUL byte"* ]]
    for subject in ratio describe changepoint; do
        run -2 --separate-stderr timeout 20 "$CVB" stats "$subject" < <(head -c 200000 /dev/zero |
            tr '\0' 1)
        [[ "$stderr" == *"stdin:1: the line is longer than"* ]]
    done
    # a last line without an end is a line
    run -0 --separate-stderr "$CVB" stats describe < <(printf '1\n2')
    jq -e '.n == 2' <<<"$output"
}

changepoint() {
    run --separate-stderr "$CVB" stats changepoint "$@"
}

# $1 values; from the one with index $2 on, $3 more.
history() {
    awk -v n="$1" -v at="$2" -v d="$3" 'BEGIN { srand(7); for (i = 0; i < n; i++)
        print 100 + rand() + rand() + (i >= at ? d : 0) }'
}

@test "changepoint: where the level changed, as JSON" {
    changepoint < <(history 90 60 3)
    [ "$status" -eq 0 ]
    jq -e '.changepoints == [.changepoints[0]] and (.changepoints[0]
        | keys == ["effect", "index", "label", "lower", "upper"]
        and .index == 60 and .label == "step" and .lower < 3 and .upper > 3
        and .lower < .effect and .effect < .upper)' <<<"$output"
    first=$output
    changepoint < <(history 90 60 3 | sed 's/$/\r/')
    [ "$output" == "$first" ]
    changepoint --preset explore < <(history 90 60 3)
    jq -e '.preset == "explore" and .changepoints[0].index == 60' <<<"$output"
    changepoint < <(history 90 90 0)
    jq -e '.changepoints == [] and .n == 90' <<<"$output"
}

@test "changepoint: constants, one jump of constants, and a drift" {
    changepoint < <(printf '%s\n' 1 1 1 1 1 1 1 1 1 1)
    [ "$status" -eq 0 ]
    jq -e '.changepoints == []' <<<"$output"
    changepoint < <(printf '%s\n' 1 1 1 1 1 1 1 2 2 2 2 2)
    jq -e '[.changepoints[] | .index, .label] == [7, "step"]
        and (.changepoints[0].effect - 1 | fabs) < 1e-9' <<<"$output"
    changepoint < <(history 90 90 0 | awk '{ print $1 + NR / 10 }')
    jq -e '[.changepoints[] | .label] == ["trend"]' <<<"$output"
}

@test "changepoint: one point and a million points" {
    changepoint <<<5
    [ "$status" -eq 0 ]
    jq -e '.changepoints == [] and .n == 1 and .sd == null' <<<"$output"
    changepoint < <(history 1000000 612345 1)
    [ "$status" -eq 0 ]
    jq -e '.n == 1000000 and (.changepoints | length) == 1
        and (.changepoints[0].index - 612345 | fabs) < 10' <<<"$output"
    [ "$SECONDS" -lt 60 ]
}

@test "changepoint: bad input exits 2 and names the line" {
    for bad in nan inf -inf 1e999 abc 1,2 "1 2"; do
        changepoint < <(printf '%s\n' 1 2 "$bad" 4)
        [ "$status" -eq 2 ]
        [[ "$stderr" == *stdin:3:* ]]
        [ -z "$output" ]
    done
    changepoint < <(printf '1\n\n2\n')
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"stdin:2: the line is blank"* ]]
    changepoint </dev/null
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"no values"* ]]
}
