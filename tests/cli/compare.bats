#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The verb compare: ratios between documents, folders and bundles, verdicts as exit codes.

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
}

# FOLDER FACTOR SEED: six documents of two metrics, speeds times the factor, give or take half a
# percent from session to session.
sessions() {
    mkdir -p "$1"
    for s in 1 2 3 4 5 6; do
        awk -v f="$2" -v seed="$3$s" 'function v() { return 1e10 * f * (1 + (rand() - .5) / 100) }
            BEGIN { srand(seed)
            printf "{\"schema\":\"cvmbench.result/1\",\"environment\":{\"kernel\":\"6.1\"},"
            printf "\"benches\":[{\"name\":\"mem.stream\",\"options\":{\"size\":64},"
            printf "\"outcome\":\"ok\",\"emulated\":false,\"deterministic\":false,\"metrics\":["
            for (i = 0; i < 2; i++) {
                x = v()
                printf "%s{\"name\":\"mem.stream/%s\",\"unit\":\"bytes_per_s\",", i ? "," : "", \
                    i ? "triad" : "copy"
                printf "\"better\":\"higher\",\"value\":%.17g,\"samples\":[%.17g,%.17g,%.17g]}", \
                    x, x * .999, x, x * 1.001
            }
            printf "]}]}\n" }' >"$1/$s.json"
    done
}

compare() {
    run --separate-stderr "$CVB" compare "$@"
}

@test "a loss of five percent fails, no loss passes" {
    sessions before 1 1
    sessions after 1 2
    sessions slow .95 3
    compare before after
    [ "$status" -eq 0 ]
    [[ "$output" == *"overall: PASS "* ]]
    compare before slow
    [ "$status" -eq 1 ]
    [[ "$output" == *"FAIL "*"mem.stream/triad"*"overall: FAIL "* ]]
    compare before slow --json
    [ "$status" -eq 1 ]
    jq -e '.schema == "cvmbench.compare/1" and .overall == "FAIL" and (.errors | length == 0)
        and .base == {path: "before", kind: "results", sessions: 6}
        and (.metrics | length == 2)
        and all(.metrics[]; .verdict == "FAIL" and .pairing == "none" and .sessions == 6
            and .rounds == 36 and .lower < .ratio and .ratio < .upper and .upper < .99
            and (.ratio - .95 | fabs) < .005 and .p_adjusted <= .05 and .unit == "bytes_per_s"
            and (.ratio - .current_value / .base_value | fabs) < 1e-9)' <<<"$output"
    compare before slow --margin .9
    [ "$status" -eq 0 ]
    compare slow before --kind equivalence
    [ "$status" -eq 1 ]
    compare before slow --metric mem.stream/copy --json
    jq -e '[.metrics[].metric] == ["mem.stream/copy"]' <<<"$output"
}

@test "two runs give a ratio without an interval; a run and itself are one" {
    "$CVB" run null.nop -o a.json
    "$CVB" run null.nop -o b.json
    compare a.json b.json
    [ "$status" -eq 3 ]
    [[ "$output" == *"one run on each side"* ]]
    compare a.json b.json --json
    jq -e --slurpfile a a.json '.metrics[0] | .metric == "null.nop/cost" and .lower == null
        and .upper == null and .p_adjusted == null and .ratio > 0
        and .unit == $a[0].benches[0].metrics[0].unit' <<<"$output"
    compare a.json a.json --json
    [ "$status" -eq 3 ]
    jq -e '.metrics[0].ratio == 1 and .metrics[0].lower == null
        and (.metrics[0].reason | test("the same numbers"))' <<<"$output"
    run -3 --separate-stderr bash -c '"$0" compare - b.json <a.json' "$CVB"
    run -3 --separate-stderr bash -c '"$0" compare <(cat a.json) <(cat b.json)' "$CVB"
    mkfifo pipe
    run -2 --separate-stderr timeout 20 "$CVB" compare pipe b.json
    [[ "$stderr" == *"pipe is not a regular file"* ]]
}

@test "what is not the same work is an error that names it" {
    sessions a 1 1
    jq '.benches[0].metrics[1].unit = "ns" | .benches[0].metrics[1].value = 7' a/1.json >unit.json
    compare a/1.json unit.json --json
    [ "$status" -eq 2 ]
    jq -e '(.metrics | length == 1) and .overall == "ERROR" and .errors[0].metric ==
        "mem.stream/triad" and (.errors[0].reason | test("bytes_per_s in base, ns in current"))' \
        <<<"$output"
    jq '.benches[0].options.size = 65' a/1.json >options.json
    compare a/1.json options.json
    [ "$status" -eq 2 ]
    [[ "$output" == *"option size is 64 in base, 65 in current"* ]]
    [[ "$output" == *"overall: ERROR "*"(exit 2)"* ]]
    jq 'del(.benches[0].metrics[0])' a/2.json >less.json
    compare a/1.json less.json
    [ "$status" -eq 2 ]
    [[ "$output" == *"mem.stream/copy"*"a/1.json"*"only"* ]]
    compare a/1.json less.json --common
    [ "$status" -eq 3 ]
    jq '.benches[0].emulated = true' a/2.json >emulated.json
    compare a/1.json emulated.json
    [ "$status" -eq 2 ]
    compare a/1.json emulated.json --mix
    [ "$status" -eq 3 ]
    [[ "$output" == *"[current: emulated]"* ]]
    jq '.benches[0] |= (.outcome = "untrusted" | .reason = "sums differ")' a/2.json >untrusted.json
    compare a/1.json untrusted.json
    [ "$status" -eq 5 ]
    [[ "$output" == *"sums differ"* ]]
    jq '.environment.kernel = "6.2"' a/2.json >kernel.json
    compare a/1.json kernel.json --json
    jq -e '.differences == [{what: "environment.kernel", base: "6.1", current: "6.2", arm: null}]' \
        <<<"$output"
}

@test "bad input exits 2 with one line that names file and field" {
    sessions a 1 1
    for bad in 0 -1 null; do
        jq --argjson v $bad '.benches[0].metrics[1].samples[2] = $v' a/2.json >bad.json
        compare a/1.json bad.json
        [ "$status" -eq 2 ]
        [[ "$output" == *mem.stream/triad*"sample 3 is "* ]]
    done
    sed 's/"value":[0-9.]*/"value":NaN/' a/1.json >bad.json
    compare a/1.json bad.json
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"CURRENT: bad.json:1:"* ]]
    jq '.benches[0].metrics[1].samples[2] = "x"' a/2.json >bad.json
    compare a/1.json bad.json
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"bad.json: benches[0].metrics[1].samples: sample 3"* ]]
    echo '{"schema":"cvmbench.verdict/1"}' >bad.json
    for other in bad.json nowhere /dev/null .; do
        compare a/1.json "$other"
        [ "$status" -eq 2 ]
        [ "$(wc -l <<<"$stderr")" -eq 1 ]
        [ -z "$output" ]
    done
    compare a/1.json
    [ "$status" -eq 2 ]
    compare a/1.json a/2.json --margin 0
    [ "$status" -eq 2 ]
    compare a/1.json a/2.json --kind absolute
    [ "$status" -eq 2 ]
    compare a/1.json a/2.json --per native
    [ "$status" -eq 2 ]
}

@test "no blank lines or colons without a name" {
    "$CVB" run null.nop -o a.json
    jq '.benches[0] |= {name, outcome: "unsupported", reason: "no"}' a.json >none.json
    compare none.json none.json
    [ "$status" -eq 4 ]
    [[ "$output" != *$'\n\n\n'* ]]
    printf '[profile]\nsessions = 1\nrounds = 2\n[arm one]\ntarget = local\n[bench null.nop]\n' >p.ini
    (cat p.ini && printf '[arm two]\ntarget = local\n') >q.ini
    "$CVB" certify p.ini -o p -q >/dev/null || true
    "$CVB" certify q.ini -o q -q >/dev/null || true
    compare p q
    [ "$status" -eq 2 ]
    [[ "$output" == *"ERROR        two: it is in current"* ]]
}

@test "bundles are compared arm by arm" {
    profile=$root/tests/fixtures/local.ini
    for b in one two; do
        run --separate-stderr "$CVB" certify "$profile" -o "$b"
        [ -f "$b/verdicts.json" ]
    done
    compare one two --json --margin .001
    # on a busy machine two sessions may leave anything open, or be void
    [ "$status" -ne 5 ] || skip "the machine was disturbed"
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ]
    jq -e '.base.kind == "bundle" and .base.sessions == 2 and (.errors | length == 0)
        and ([.metrics[].arm] | unique == ["gpu-off", "gpu-on", "native"])
        and all(.metrics[]; .rounds == 8)
        and all(.metrics[] | select(.arm == "gpu-on"); .emulated)' <<<"$output"
    compare one two --json --per gpu-off
    jq -e '([.metrics[].arm] | unique == ["gpu-on"]) and all(.metrics[]; .unit == "ratio")' \
        <<<"$output"
    compare one two --per gpu-of
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"did you mean gpu-off?"* ]]
    "$CVB" run null.nop -o r.json
    compare one r.json
    [ "$status" -eq 2 ]
    [[ "$stderr" == *"is a bundle"* ]]
}
