#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Every benchmark that needs no GPU runs on the host, in a guest, and in a
# guest with a bounce buffer, in one campaign; and every sample of it is long
# enough to be timed. A benchmark that is added is asked for by itself.

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
    export TMPDIR=$BATS_TEST_TMPDIR/t
    mkdir -p "$TMPDIR"
    cat >small.ini <<'INI'
[profile]
sessions = 1
rounds = 1
sample_ms = 1
[arm native]
[arm vm]
target = qemu
memory = 1GiB
cpus = 2
disk = 256MiB
[arm bounce]
like = vm
bounce = on
swiotlb_slabs = 65536
[bench null.nop]
[bench cpu.exit]
interval_us = 1000
[bench crypto.aes_gcm]
max_size = 64KiB
step = 32
dir = encrypt
[bench disk.fio]
size = 16MiB
jobs = randread-4k-32
runtime_ms = 200
ramp_ms = 0
[bench mem.latency]
max_size = 256KiB
[bench mem.loaded]
size = 4MiB
buffer = 4MiB
step = 16
[bench mem.stream]
size = 16MiB
threads = 1
[bench mem.touch]
size = 16MiB
pages = 4k
[bench net.rr]
payload_bytes = 64
transactions = 100
[bench net.tcp]
streams = 1
dir = send
duration_ms = 300
[bench net.udp]
payload_bytes = 1460
streams = 1
dir = send
INI
}

# Nothing of ours may be left when a test ends.
teardown() {
    ! pgrep -f "qemu-system.*$BATS_TEST_TMPDIR"
}

@test "every benchmark runs natively, in a guest, and in one with a bounce buffer" {
    "$CVB" list benches --json >benches.json
    jq -r '.benches[] | select(.needs_gpu or .fake | not) | .name' benches.json >all
    [ "$(wc -l <all)" -ge 11 ]
    while read -r bench; do
        grep -qxF "[bench $bench]" small.ini || echo "[bench $bench]" >>small.ini
    done <all

    # 3: no gate, so nothing is judged
    run -3 --separate-stderr "$CVB" certify small.ini -o out
    jq -s '[.[] | select(.type == "bench")]' out/journal.jsonl >ran.json
    jq -r '.[] | "\(.bench) \(.arm) \(.outcome) \(.reason // "")"' ran.json
    # what this machine lacks is said, all else ran
    jq -e --slurpfile ran ran.json '[.benches[] | select(.needs_gpu or .fake | not) | .name] |
        all(. as $bench | [$ran[0][] | select(.bench == $bench)] |
            (map(.arm) | sort) == ["bounce", "native", "vm"] and
            all(.outcome == "ok" or (.outcome == "unsupported" and (.reason | length) > 10)))' benches.json
    # these need nothing that a machine may lack
    jq -e '[.[] | select(.bench | IN("null.nop", "cpu.exit", "cpu.steal", "crypto.aes_gcm", "mem.stream",
        "mem.latency", "mem.touch", "net.rr"))] | length == 24 and all(.outcome == "ok")' ran.json
    jq -s -e '[.[] | select(.type == "sample" and .shortest_ns > 0)] | length >= 20 and
        all(.shortest_ns >= 1e6)' out/journal.jsonl
}
