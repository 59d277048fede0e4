#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The network benchmarks as a user runs them: over the loopback, from a guest,
# and where a server is missing, held by someone else, or dies.

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
    export TMPDIR=$BATS_TEST_TMPDIR/t
    mkdir -p "$TMPDIR"
}

# No server of ours may be left when a test ends.
teardown() {
    [ ! -e pid ] || ! pgrep -s "$(cat pid)"
}

# Wait for the iperf3 server that process $1 has started, print its pid.
server_of() {
    local i pid
    for ((i = 0; i < 400; i++)); do
        pid=$(pgrep -P "$1" -x iperf3) && {
            echo "$pid"
            return 0
        }
        sleep 0.01
    done
    return 1
}

@test "round trips: every percentile, in order, over both protocols" {
    run -0 --separate-stderr "$CVB" run net.rr --json -n 2 --sample-ms 5
    echo "$output" | jq -e '.benches[0].metrics | map(select(.name == "net.rr/latency_p50")) |
        map(.params | "\(.proto) \(.payload_bytes) \(.wait)") ==
        ["tcp 1 epoll", "tcp 64 epoll", "tcp 1400 epoll", "udp 1 epoll", "udp 64 epoll", "udp 1400 epoll"]'
    echo "$output" | jq -e '.benches[0].metrics | group_by(.params) | all(
        map({key: .name[7:], value: .value}) | from_entries |
        .latency_min > 1000 and .latency_min <= .latency_p50 and .latency_p50 <= .latency_p90 and
        .latency_p90 <= .latency_p99 and .latency_p99 <= .latency_p999 and
        .transactions > 0 and .transactions <= 1e9 / .latency_min and (.lost // 0) < 0.01)'
    echo "$output" | jq -e '.benches[0].notes | any(contains("the loopback is not a network"))'
    echo "$output" | jq -e '.benches[0].notes | any(test("interface lo: .*mtu [0-9]+, .*tso (on|off)"))'
}

@test "polling is measured beside being woken, or is refused with one CPU" {
    if [ "$(nproc)" -ge 2 ]; then
        run -0 --separate-stderr "$CVB" run net.rr --json -n 3 -s wait=block,poll -s payload_bytes=64 -s proto=udp
        echo "$output" | jq -e '.benches[0].metrics | map(select(.name == "net.rr/latency_min")) |
            map(.params.wait) == ["block", "poll"] and all(.value > 1000)'
    fi
    run -4 --separate-stderr taskset -c 0 "$CVB" run net.rr -s wait=poll
    [[ "$output" == *"needs a second CPU"* ]]
}

@test "without iperf3 round trips are measured, and the others name the package" {
    mkdir empty
    run -0 --separate-stderr env PATH="$PWD/empty" "$CVB" run net.rr,net.tcp,net.udp --json -n 1 -s transactions=100
    echo "$output" | jq -e '[.benches[].outcome] == ["ok", "unsupported", "unsupported"]'
    [[ "$output" == *"Debian package iperf3"* ]]
    run -4 --separate-stderr env PATH="$PWD/empty" "$CVB" run net.udp
}

@test "TCP in both directions at once is one series, their sum" {
    run -0 --separate-stderr "$CVB" run net.tcp --json -s streams=2 -s dir=bidir -s duration_ms=300
    echo "$output" | jq -e '.benches[0].metrics | map(select(.name == "net.tcp/bandwidth")) |
        length == 1 and .[0].params == {dir: "bidir", streams: 2} and .[0].value > 1e6'
}

@test "datagrams: what arrives, what is lost and what was offered agree" {
    run -0 --separate-stderr "$CVB" run net.udp --json
    echo "$output" | jq -e '.benches[0].metrics | group_by(.params) | length == 8 and all(
        .[0].params.payload_bytes as $bytes |
        map({key: .name[8:], value: .value}) | from_entries |
        .bandwidth > 0 and .loss >= 0 and .loss < 1 and .jitter >= 0 and
        (.packets * $bytes / .bandwidth - 1 | fabs) < 0.001 and
        (.bandwidth / .offered - (1 - .loss) | fabs) < 0.1)'
    # a rate that the loopback can take is not lost
    run -0 --separate-stderr "$CVB" run net.udp --json -s rate_bytes_per_s=1000000 -s payload_bytes=1460 -s dir=send -s streams=2
    echo "$output" | jq -e '.benches[0].metrics | map({key: .name[8:], value: .value}) | from_entries |
        .loss < 0.01 and (.offered / 1e6 - 1 | fabs) < 0.05'
}

@test "bad options are told before anything is started" {
    run -2 --separate-stderr "$CVB" run net.udp -s payload_bytes=9
    [[ "$stderr" == *"16 to 65507"* ]]
    run -2 --separate-stderr "$CVB" run net.tcp -s streams=1,1
    [[ "$stderr" == *"twice"* ]]
    run -2 --separate-stderr "$CVB" run net.rr -s payload_bytes=-1
    [[ "$stderr" == *"1 to 8192"* ]]
}

@test "a server that dies in the middle is a failure with its reason" {
    setsid "$CVB" run net.tcp -s duration_ms=20000 >out 2>&1 &
    echo $! >pid
    server=$(server_of $!)
    # the client has connected when the server has more than its listening socket
    for ((i = 0; i < 400; i++)); do
        [ "$(find /proc/"$server"/fd -lname 'socket:*' | wc -l)" -lt 2 ] || break
        sleep 0.01
    done
    kill -KILL "$server"
    status=0
    wait $! || status=$?
    [ "$status" -eq 6 ]
    cat out
    grep -q 'FAILED: .*iperf3: ' out
}

@test "a server that someone else uses is waited for" {
    setsid "$CVB" run net.tcp -s dir=send -s streams=1 --json >out 2>err &
    echo $! >pid
    server=$(server_of $!)
    port=$(tr '\0' '\n' <"/proc/$server/cmdline" | sed -n '/^-p$/{n;p}')
    # a second one that comes in between, whoever is first: both get their turn
    until iperf3 -c 127.0.0.1 -p "$port" -t 1 -J >other; do sleep 0.1; done
    status=0
    wait "$(cat pid)" || status=$?
    cat err
    [ "$status" -eq 0 ]
    jq -e '.benches[0].outcome == "ok"' out
}

@test "from a guest: round trips, datagrams, its interface" {
    run -0 --separate-stderr "$CVB" run net.rr,net.udp --json -t qemu,memory=512MiB -n 1 \
        -s transactions=100 -s net.rr.payload_bytes=64 -s net.udp.payload_bytes=1460 -s streams=1
    echo "$output" | jq -e '[.benches[].outcome] == ["ok", "ok"]'
    echo "$output" | jq -e '.benches[].notes | any(test("interface eth0: driver virtio_net, mtu [0-9]+, .*tso o(n|ff)"))'
    echo "$output" | jq -e '.benches[0].metrics | map(select(.name == "net.rr/latency_p50")) | length == 2 and all(.value > 1000)'
}
