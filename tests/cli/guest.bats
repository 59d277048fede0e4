#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Managed guests: real boots, and everything that can go wrong with one. The
# guest image lies beside the program (ci/test builds it).

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
    # sockets of running guests go here, so that teardown sees ours only
    export TMPDIR=$BATS_TEST_TMPDIR/t
    mkdir -p "$TMPDIR"
    cat >vm.ini <<'INI'
[profile]
name = vm
sessions = 1
rounds = 1
sample_ms = 1
[arm native]
[arm vm]
target = qemu
accel = auto
memory = 512MiB
disk = 64MiB
[bench null.nop]
INI
}

# Nothing of ours may be left when a test ends.
teardown() {
    ! pgrep -f "qemu-system.*$BATS_TEST_TMPDIR"
    ! ls -d "$BATS_TEST_TMPDIR"/t/cvmbench-* 2>/dev/null
}

@test "a program runs in the guest, and its status comes back" {
    run -0 --separate-stderr "$CVB" vm run vm.ini vm -- cat /proc/cmdline
    [[ "$output" == *console=ttyS0* ]]
    [[ "$stderr" == *"under tcg"* || "$stderr" == *"under kvm"* ]]
    run -6 --separate-stderr "$CVB" vm run vm.ini vm -- false
    [[ "$stderr" == *"status 1"* ]]
}

@test "a guest without a network peer cannot reach the host" {
    mkdir web
    echo host-secret >web/secret
    busybox httpd -f -p 127.0.0.1:18099 -h web &
    server=$!
    run --separate-stderr "$CVB" vm run vm.ini vm -- wget -q -T 3 -O - http://10.0.2.2:18099/secret
    kill $server
    [ "$status" -eq 6 ]
    [[ "$output" != *host-secret* ]]
}

@test "vm argv prints the line that is run" {
    run -0 --separate-stderr "$CVB" vm argv vm.ini vm
    [[ "$output" == qemu-system-x86_64*"-m 512M"* ]]
    run -2 --separate-stderr "$CVB" vm argv vm.ini native
    [[ "$stderr" == *"not in a guest"* ]]
}

@test "the bounce arm's I/O really goes through the pool" {
    cat >>vm.ini <<'INI'
[arm bounce]
like = vm
memory = 640MiB
bounce = on
swiotlb_slabs = 65536
[bench disk.fio]
arms = vm, bounce
size = 16MiB
runtime_ms = 200
jobs = read-128k-32
INI
    run --separate-stderr "$CVB" certify vm.ini -o b -q
    [ "$status" -eq 3 ]
    # what the disk's requests are cut into, with and without a pool
    jq -es 'map(select(.type == "sample" and .bench == "disk.fio" and .arm != "native") | .swiotlb.max_sectors_kb > 0)
        | length > 0 and all' b/journal.jsonl
    jq -es 'map(select(.type == "arm_end" and .arm == "bounce")) | .[0] | .reason == null and .swiotlb.nslabs == 65536 and .swiotlb.used_hiwater > 0' b/journal.jsonl
    # label and console of each guest are kept
    jq -es 'map(select(.type == "arm" and .arm == "bounce")) | .[0].labels.bounce' b/journal.jsonl
    [ -s b/console/bounce-s1a1.console.log ]
    jq -es '[.[] | select(.type == "sample" and .bench == "disk.fio") | .values | all(. != null and . > 0)] | all and length == 2' b/journal.jsonl
}

@test "a guest that panics is told by its console" {
    sed -i 's|^accel = auto|&\nappend = rdinit=/none init=/none|' vm.ini
    run -6 --separate-stderr timeout 60 "$CVB" vm run vm.ini vm -- true
    [[ "$stderr" == *"arm vm"*"Kernel panic"* ]]
}

@test "a guest whose agent never answers is given up in time" {
    sed -i 's|^accel = auto|&\nappend = cvmbench.shell\nboot_timeout_s = 8|' vm.ini
    begin=$SECONDS
    run -6 --separate-stderr timeout 60 "$CVB" vm run vm.ini vm -- true
    [ $((SECONDS - begin)) -lt 30 ]
    [[ "$stderr" == *"boot_timeout_s = 8"* ]]
}

@test "a QEMU that cannot start says why" {
    sed -i 's|^accel = auto|&\nqemu = /bin/false|' vm.ini
    run --separate-stderr timeout 60 "$CVB" vm run vm.ini vm -- true
    [ "$status" -eq 6 ]
    [[ "$stderr" == *"exit status 1"* ]]
    sed -i 's|^qemu = .*|qemu = no-such-qemu|' vm.ini
    run -4 --separate-stderr "$CVB" vm run vm.ini vm -- true
    [[ "$stderr" == *"qemu-system-x86"* ]]
}

@test "a missing guest image says how to build it" {
    sed -i 's|^accel = auto|&\nguest = /nonexistent|' vm.ini
    run -4 --separate-stderr "$CVB" vm run vm.ini vm -- true
    [[ "$stderr" == *"scripts/guest"* ]]
}

@test "a guest killed in the middle of a round ends the campaign, which resumes" {
    cat >>vm.ini <<'INI'
[bench mem.latency]
rounds = 2
max_size = 4MiB
sample_ms = 60
INI
    "$CVB" certify vm.ini -o b >/dev/null 2>err &
    pid=$!
    for _ in $(seq 1200); do
        grep -qs '"type":"sample"' b/journal.jsonl && break
        sleep 0.05
    done
    qemu=$(pgrep -P $pid qemu)
    kill -KILL "$qemu"
    status=0
    wait $pid || status=$?
    [ "$status" -eq 6 ]
    [ "$(grep -c error: err)" -eq 1 ]
    cat err
    grep -q 'the guest of arm vm ended (signal 9' err
    tail -1 b/journal.jsonl | jq -e '.type == "abort"'
    run --separate-stderr "$CVB" certify --resume b -q
    [ "$status" -eq 3 ]
    tail -1 b/journal.jsonl | jq -e '.type == "campaign_end"'
}

@test "a TD arm is UNSUPPORTED with the reason, and the campaign goes on" {
    [ ! -e /sys/module/kvm_intel/parameters/tdx ] || skip "this host knows TDX"
    cat >>vm.ini <<'INI'
arms = native, td
[arm td]
target = qemu
tee = tdx
[gate g]
metric = null.nop/cost
arm = td
base = native
INI
    run -4 --separate-stderr "$CVB" certify vm.ini -o b
    jq -e '.gates[0] | .verdict == "UNSUPPORTED" and (.reason | contains("TDX"))' b/verdicts.json
}
