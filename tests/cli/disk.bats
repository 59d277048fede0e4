#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# disk.fio: what it measures, what it refuses, and that it never writes where
# someone's data may be. Loop devices stand for disks; without them (or
# without root) those tests are skipped.

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
    PATH=$PATH:/usr/sbin:/sbin
    quick=(-s size=8MiB -s runtime_ms=100 -s ramp_ms=0)
    loop=
}

teardown() {
    umount "$BATS_TEST_TMPDIR/mnt" 2>/dev/null
    [ -z "$loop" ] || losetup -d "$loop"
    # nothing of ours may be left, whatever happened
    ! ls -d cvmbench-* small/cvmbench-* 2>/dev/null
}

# A loop device on an image of $1 MiB: its path in $loop.
loop_device() {
    command -v losetup >/dev/null || skip "no losetup"
    [ "$(id -u)" -eq 0 ] || skip "loop devices need root"
    truncate -s "${1}M" img
    loop=$(losetup -f --show img 2>/dev/null) || { loop=''; skip "no loop device can be had here"; }
}

# The image as it lies on the disk, past the caches of the loop device.
image_sum() {
    sync "$loop"
    sha256sum <img
}

needs() { command -v "$1" >/dev/null || skip "no $1"; }

# A program that stands for fio.
fake_fio() {
    mkdir -p fake
    printf '#!/bin/sh\ncase "$1" in --enghelp*) exit 0 ;; esac\n%s\n' "$1" >fake/fio
    chmod +x fake/fio
}

# --- what is measured ---------------------------------------------------------

@test "every job, engine and cache mode gives its own series" {
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s ioengine=all -s direct=both --json
    jq -e '.benches[0] | .outcome == "ok"' <<<"$output"
    # direct must be worth its name on this file system for the comparison
    engines=$(jq '[.benches[0].metrics[].params.engine] | unique | length' <<<"$output")
    [ "$engines" -eq 2 ] || jq -e '[.benches[0].notes[] | select(contains("io_uring is left out"))] | length == 1' <<<"$output"
    jq -e --argjson e "$engines" '[.benches[0].metrics[] | select(.name == "disk.fio/iops")] | length == 18 * $e' <<<"$output"
    # the same params and name never twice
    jq -e '[.benches[0].metrics[] | [.name, .params]] | length == (unique | length)' <<<"$output"
    jq -e '[.benches[0].metrics[].value] | all(. != null and . >= 0)' <<<"$output"
    jq -e '[.benches[0].metrics[] | select(.name == "disk.fio/fsync_p999")] | length > 0 and all(.params.fsync == 1 and .value > 0)' <<<"$output"
    jq -e '[.benches[0].metrics[] | select(.params.rw == "randrw") | .params.dir] | unique == ["read", "write"]' <<<"$output"
    jq -e '[.benches[0].notes[] | select(startswith("backend: file on "))] | length == 1' <<<"$output"
}

@test "a mixed job does seven reads in ten transfers" {
    run -0 --separate-stderr "$CVB" run disk.fio -s size=8MiB -s runtime_ms=300 -s jobs=mixed-4k-32 --json
    jq -e '[.benches[0].metrics[] | select(.name == "disk.fio/iops")] | (.[] | select(.params.dir == "read").value) as $r
        | (.[] | select(.params.dir == "write").value) as $w | $r / ($r + $w) | . > 0.6 and . < 0.8' <<<"$output"
}

@test "psync runs what has a depth of 1, and says what it leaves out" {
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s ioengine=psync --json
    jq -e '[.benches[0].metrics[].params.depth] | unique == [1]' <<<"$output"
    jq -e '.benches[0].notes | any(contains("5 deeper jobs"))' <<<"$output"
    run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s ioengine=psync -s jobs=read-128k-128
    [[ "$stderr$output" == *"depth of 1"* ]]
}

@test "an existing file can be read, and is never written" {
    head -c 9M /dev/urandom >mine
    before=$(sha256sum <mine)
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path=mine -s jobs=randread-4k-32 --json
    jq -e '.benches[0].notes | any(contains("read as it is"))' <<<"$output"
    run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path=mine
    [[ "$stderr$output" == *"not ours"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path=mine -s device_confirm=mine -s jobs=randwrite-4k-1
    [ "$before" = "$(sha256sum <mine)" ]
    truncate -s 20M mine
    run -2 --separate-stderr "$CVB" run disk.fio -s size=20MiB -s runtime_ms=100 -s path=mine -s jobs=randread-4k-1
    [[ "$stderr$output" == *"hole at byte 9437184"* ]]
}

# --- bad input ----------------------------------------------------------------

@test "bad words and sizes are told in one line" {
    run -2 --separate-stderr "$CVB" run disk.fio -s jobs=randread-4k-2
    [[ "$stderr$output" == *"did you mean randread-4k-"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s jobs=randread-4k-1,randread-4k-1
    [[ "$stderr$output" == *"named twice"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s ioengine=libiao
    [[ "$stderr$output" == *"did you mean libaio"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s direct=maybe
    run -2 --separate-stderr "$CVB" run disk.fio -s size=1KiB
    [[ "$stderr$output" == *"size"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s path=/no/such/place
    [[ "$stderr$output" == *"/no/such/place"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s path=/dev/null
    [[ "$stderr$output" == *"neither a folder"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s size=900TiB
    [[ "$stderr$output" == *"MiB free"* ]]
}

@test "a folder that cannot be written" {
    mkdir ro
    if [ "$(id -u)" -eq 0 ]; then
        # root writes anywhere but here
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path=/proc
        [[ "$stderr$output" == *"cannot make a file in /proc"* ]]
    else
        chmod 500 ro
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path=ro
        [[ "$stderr$output" == *"cannot make a file in ro"* ]]
    fi
}

@test "memory is no disk" {
    [ "$(stat -fc %T /dev/shm 2>/dev/null)" = tmpfs ] || skip "no tmpfs at /dev/shm"
    run -4 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path=/dev/shm
    [[ "$stderr$output" == *"lies in memory"* ]]
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path=/dev/shm -s direct=off -s jobs=randread-4k-1 --json
    jq -e '.benches[0].notes | any(contains("no disk is measured"))' <<<"$output"
    ! ls /dev/shm/cvmbench-fio* 2>/dev/null
}

@test "missing fio is UNSUPPORTED and names the package" {
    mkdir none
    run -4 --separate-stderr env PATH="$PWD/none" "$CVB" run disk.fio
    [[ "$stderr$output" == *"Debian package fio"* ]]
}

@test "a fio without an engine: asked for it is unsupported, else left out with a note" {
    fake_fio 'exec '"$(command -v fio)"' "$@"'
    sed -i 's|^case.*|case "$1" in --enghelp=io_uring) echo "IO engine io_uring not found"; exit 0 ;; esac|' fake/fio
    run -4 --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}" -s ioengine=io_uring
    [[ "$stderr$output" == *io_uring* ]]
    run -0 --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}" -s ioengine=all -s jobs=randread-4k-1 --json
    jq -e '.benches[0] | (.notes | any(startswith("left out: engine=io_uring"))) and ([.metrics[].params.engine] | unique == ["libaio"])' <<<"$output"
}

@test "a fio that dies or prints garbage is an error with fio's own words" {
    fake_fio 'echo "fio: job died of an odd cause" >&2; exit 3'
    run --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}"
    [ "$status" -ne 0 ] && [ "$status" -lt 128 ]
    [[ "$stderr$output" == *"odd cause"* ]]
    fake_fio 'kill -SEGV $$'
    run --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}"
    [ "$status" -ne 0 ] && [ "$status" -lt 128 ]
    fake_fio 'head -c 100000 /dev/urandom'
    run --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}"
    [ "$status" -ne 0 ] && [ "$status" -lt 128 ]
    [[ "$stderr$output" == *"no JSON document"* ]]
    # a good document, and then a bad end
    fake_fio "$(command -v fio)"' "$@"; exit 9'
    run --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}" -s jobs=randread-4k-1
    [ "$status" -ne 0 ] && [ "$status" -lt 128 ]
    [[ "$stderr$output" == *"exit status 9"* ]]
}

@test "killed in the middle, it leaves no file behind" {
    mkdir place
    "$CVB" run disk.fio -s size=8MiB -s runtime_ms=20000 -s path=place >/dev/null 2>&1 &
    pid=$!
    for _ in $(seq 50); do
        [ -n "$(find "/proc/$pid/fd" -lname "*/place/cvmbench-fio*" 2>/dev/null)" ] && break
        sleep 0.1
    done
    [ -n "$(find "/proc/$pid/fd" -lname "*/place/cvmbench-fio*" 2>/dev/null)" ] || {
        # the agent is a child of the program
        child=$(pgrep -P "$pid" | head -1)
        [ -n "$(find "/proc/$child/fd" -lname "*/place/cvmbench-fio*" 2>/dev/null)" ]
    }
    kill -KILL "$pid"
    wait "$pid" || true
    [ -z "$(ls -A place)" ]
    rm -rf cvmbench-scratch-* # the program's own folder, which a kill leaves
}

# --- devices ------------------------------------------------------------------

@test "a blank device is filled and marked, and taken again without asking" {
    loop_device 16
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s jobs=randwrite-4k-1 --json
    jq -e --arg l "${loop##*/}" '.benches[0].notes | any(startswith("backend: " + $l + " (loop): "))' <<<"$output"
    sync "$loop"
    [[ "$(head -c 24 img)" == "cvmbench scratch device"* ]]
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s jobs=randread-4k-1
    # beyond the ends nothing was written
    [ "$(tail -c 1M img | tr -d '\0' | wc -c)" -eq 0 ]
}

@test "nothing is written to a device with a signature" {
    loop_device 32
    for make in "mkfs.ext2 -q -F" "mkfs.ext4 -q -F" "mkswap -q" "sfdisk -q --label dos" "sfdisk -q --label gpt"; do
        needs "${make%% *}"
        dd if=/dev/zero of="$loop" bs=1M count=32 conv=fsync status=none
        if [[ $make == sfdisk* ]]; then
            echo ', 16M' | $make --no-reread --no-tell-kernel "$loop" >/dev/null 2>&1
        else
            $make "$loop" >/dev/null 2>&1
        fi
        before=$(image_sum)
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop"
        [[ "$stderr$output" == *"not writing to $loop"*"carries "* ]] || { echo "$make: $stderr $output"; return 1; }
        # one key of two, or a key for another path, opens nothing
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s device_confirm=/dev/other
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s device_confirm="$loop"
        [ "$before" = "$(image_sum)" ]
    done
}

@test "LVM, RAID and LUKS headers, and data that nobody knows" {
    loop_device 32
    for row in 512:LABELONE:LVM 4096:'\xfc\x4e\x2b\xa9':RAID 0:'LUKS\xba\xbe':LUKS 33546240:'\xfc\x4e\x2b\xa9':RAID 700:x:unknown \
        5000001:x:unknown; do
        IFS=: read -r at magic name <<<"$row"
        dd if=/dev/zero of="$loop" bs=1M count=32 conv=fsync status=none
        # shellcheck disable=SC2059
        printf "$magic" | dd of="$loop" bs=1 seek="$at" conv=notrunc,fsync status=none
        before=$(image_sum)
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop"
        [[ "$stderr$output" == *"not writing to $loop"*"$name"* ]] || { echo "$row: $stderr $output"; return 1; }
        [ "$before" = "$(image_sum)" ]
    done
}

@test "jobs that only read may use a device with data, and change nothing" {
    needs mkfs.ext2
    loop_device 16
    mkfs.ext2 -q -F "$loop"
    before=$(image_sum)
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s jobs=randread-4k-1,read-128k-128 --json
    jq -e '.benches[0].notes | any(contains("read as it is"))' <<<"$output"
    [ "$before" = "$(image_sum)" ]
    # the second key does not make them write either
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s device_confirm="$loop" -s jobs=randread-4k-1
    [ "$before" = "$(image_sum)" ]
}

@test "both keys together erase a device, and no key opens a mounted one" {
    needs mkfs.ext2
    loop_device 16
    mkfs.ext2 -q -F "$loop"
    mkdir mnt
    if mount "$loop" mnt 2>/dev/null; then
        before=$(image_sum)
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s device_confirm="$loop"
        [[ "$stderr$output" == *"in use"* ]]
        run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s jobs=randread-4k-1
        [[ "$stderr$output" == *"in use"* ]]
        [ "$before" = "$(image_sum)" ]
        umount mnt
    fi
    run -0 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop" -s device_confirm="$loop" -s jobs=randwrite-4k-1
    sync "$loop"
    [[ "$(head -c 24 img)" == "cvmbench scratch device"* ]]
}

# Between two samples a file system appears: what follows must not write.
@test "a device that changes between two samples is not written to any more" {
    loop_device 16
    fake_fio "$(command -v fio)"' "$@"; r=$?; printf "\123\357" | dd of='"$loop"' bs=1 seek=1080 conv=notrunc status=none; exit $r'
    run --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}" -n 3 -s path="$loop" -s jobs=randwrite-4k-1
    [ "$status" -ne 0 ] && [ "$status" -lt 128 ]
    [[ "$stderr$output" == *"not writing to $loop any more"* ]]
}

# What was checked is a descriptor, not a name.
@test "a link that is swapped before fio starts leads nowhere else" {
    loop_device 16
    head -c 16M /dev/urandom >victim
    before=$(sha256sum <victim)
    ln -s "$loop" disk
    fake_fio 'ln -sfn "$PWD/victim" disk; exec '"$(command -v fio)"' "$@"'
    run -0 --separate-stderr env PATH="$PWD/fake:$PATH" "$CVB" run disk.fio "${quick[@]}" -s path=disk -s jobs=randwrite-4k-1
    [ "$(readlink disk)" = "$PWD/victim" ]
    [ "$before" = "$(sha256sum <victim)" ]
}

@test "too small a device" {
    loop_device 6
    run -2 --separate-stderr "$CVB" run disk.fio "${quick[@]}" -s path="$loop"
    [[ "$stderr$output" == *"smaller than"* ]]
}
