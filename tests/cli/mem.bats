#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The memory benchmarks as a user runs them. CVB is the program.

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
}

@test "mem.stream: what is different has params of its own" {
    run -0 --separate-stderr "$CVB" run mem.stream -s size=1MiB -s threads=both -n 2 --sample-ms 1 \
        --threads 2 --json
    jq -e '.benches[0].outcome == "ok"' <<<"$output"
    jq -e '[.benches[0].metrics[] | {name, params}] | length == (unique | length)' <<<"$output"
    jq -e '[.benches[0].metrics[] | select(.name == "mem.stream/triad") | .params] | sort
        == [{stores: "nontemporal", threads: 1}, {stores: "nontemporal", threads: 2},
            {stores: "regular", threads: 1}, {stores: "regular", threads: 2}]' <<<"$output"
    jq -e '.benches[0].notes | any(startswith("kernels: "))' <<<"$output"
}

@test "mem.latency: a note tells the first plateau in cycles" {
    run -0 --separate-stderr "$CVB" run mem.latency -s max_size=32KiB -n 2 --json
    jq -e '.benches[0].notes | any(test("^16 KiB: [0-9.]+ cycles \\([0-9.]+ ns at a clock of [0-9.]+ GHz\\)$"))' \
        <<<"$output"
}

@test "mem.loaded: one CPU cannot load another" {
    run -4 --separate-stderr taskset -c "$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')" "$CVB" run mem.loaded
    [[ "$output" == *"UNSUPPORTED: setting up mem.loaded: a load besides the measured CPU needs a second one"* ]]
}

@test "mem.loaded: a latency and a bandwidth at each delay" {
    [ "$(nproc)" -ge 2 ] || skip "one CPU"
    run -0 --separate-stderr "$CVB" run mem.loaded -s size=1MiB -s buffer=1MiB -s step=16 -n 2 \
        --json
    jq -e '[.benches[0].metrics[] | select(.name == "mem.loaded/bandwidth") | .params.delay_cycles]
        == [2048, 128, 0]' <<<"$output"
    jq -e '[.benches[0].metrics[] | .value > 0] | all' <<<"$output"
}

@test "mem.touch: what cannot be had is named, and refused when asked for" {
    run -0 --separate-stderr "$CVB" run mem.touch -s size=8MiB -n 2 --sample-ms 1 --json
    jq -e '.benches[0].outcome == "ok"' <<<"$output"
    jq -e '.benches[0] | ([.metrics[].params.pages] | unique | length)
        + ([.notes[] | select(startswith("left out: pages="))] | length) == 4' <<<"$output"
    # more 1 GiB pages than this machine has memory for
    run -4 --separate-stderr "$CVB" run mem.touch -s pages=1g -s size=900TiB
    [[ "$output" == *"UNSUPPORTED"*"huge pages of 1024 MiB are free"* ||
        "$output" == *"UNSUPPORTED"*"has no pages of 1024 MiB"* ]]
}

@test "sizes beyond the memory: one message, exit 2" {
    for b in mem.stream mem.loaded mem.touch; do
        run -2 --separate-stderr "$CVB" run "$b" -s size=900TiB -s pages=4k
        [[ "$stderr" == *"available"* ]]
        [ "$(wc -l <<<"$stderr")" -eq 1 ]
    done
    run -2 --separate-stderr "$CVB" run mem.latency -s max_size=900TiB
    [[ "$stderr" == *"available"* ]]
}
