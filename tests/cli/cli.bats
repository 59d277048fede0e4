#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The command line: exit codes, messages, documents. CVB is the program.

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    : "${CVB:=$root/build/cvmbench}"
    cd "$BATS_TEST_TMPDIR" || return 1
    local_profile=$root/tests/fixtures/local.ini
}

# Every verb has help on stdout and status 0.
@test "help of the program and of each verb" {
    run --separate-stderr "$CVB" --help
    [ "$status" -eq 0 ]
    verbs=$(awk '/^Verbs:/{on=1;next} /^$/{on=0} on{print $1}' <<<"$output")
    [ "$(wc -w <<<"$verbs")" -ge 6 ]
    for v in $verbs; do
        run --separate-stderr "$CVB" "$v" --help
        [ "$status" -eq 0 ]
        [[ "$output" == "Usage: cvmbench $v "* ]]
        [ -z "$stderr" ]
    done
}

@test "version names the program and its compiler" {
    run -0 "$CVB" --version
    [[ "$output" =~ ^cvmbench\ [0-9]+\.[0-9]+\.[0-9]+\ \( ]]
}

@test "usage errors exit 2 with one line that says what would be right" {
    run -2 --separate-stderr "$CVB" certfy quick
    [[ "$stderr" == *'did you mean certify?'* ]]
    run -2 --separate-stderr "$CVB" --json list
    [[ "$stderr" == *'options come after it'* ]]
    run -2 --separate-stderr "$CVB" run mem.lateny
    [[ "$stderr" == *'did you mean mem.latency?'* ]]
    run -2 --separate-stderr "$CVB" run mem.latency -s max_size=huge
    [[ "$stderr" == *'expected a size such as'* ]]
    run -2 --separate-stderr "$CVB" run mem.latency -t qemu,memroy=1GiB
    [[ "$stderr" == *'did you mean memory?'* ]]
    run -2 --separate-stderr "$CVB" certify no-such-profile
    [ "$(wc -l <<<"$stderr")" -eq 1 ]
    run -2 --separate-stderr "$CVB" run
    [ -z "$output" ]
}

@test "list is JSON with units and directions" {
    run -0 --separate-stderr "$CVB" list benches --json
    jq -e '.benches | length >= 7' <<<"$output"
    jq -e '[.benches[].metrics[] | select((.unit | length) > 0 and (.better == "higher" or .better == "lower"))] | length == ([$all[].metrics[]] | length)' \
        --argjson all "$(jq .benches <<<"$output")" <<<"$output"
    run -0 --separate-stderr "$CVB" list skus --json
    jq -e '[.skus[].name] | index("h100-tdx") != null' <<<"$output"
    run -0 --separate-stderr "$CVB" list profiles --json
    jq -e '.profiles[] | select(.name == "quick") | .error == null' <<<"$output"
}

@test "every shipped profile loads, and its keys are told" {
    run -0 --separate-stderr "$CVB" list profiles --json
    jq -e '[.profiles[] | select(.error != null)] == []' <<<"$output"
    jq -e '[.profiles[].name] | index("tdx") != null and index("snp") != null' <<<"$output"
    run -0 --separate-stderr "$CVB" list keys
    for word in sessions tee aa_of firmware rounds margin params; do
        [[ "$output" == *"  $word="* ]]
    done
}

@test "a profile for real hardware has no reason of its own against a certificate" {
    for p in "$root/profiles/tdx.ini" "$root/profiles/snp.ini"; do
        ! grep -nE '^gpu = emu|^bounce = on|^accel = tcg' "$p"
        [ "$(grep -c '^aa_of' "$p")" -ge 2 ] # each base arm has one
        [ "$(sed -n 's/^sessions = //p' "$p")" -ge 5 ]
    done
}

@test "list benches names the params of each benchmark's series" {
    run -0 --separate-stderr "$CVB" list benches --json
    jq -e '[.benches[] | select(.name == "mem.latency") | .params]
        == [["size_bytes", "pages", "cpu_node", "mem_node"]]' <<<"$output"
    jq -e '[.benches[] | select(.name == "null.nop") | .params] == [[]]' <<<"$output"
    run -0 --separate-stderr "$CVB" list benches
    [[ "$output" == *"params of its series: size_bytes, dir, mem"* ]]
}

@test "certify refuses a gate on a parameter that no series can have, before it measures" {
    sed 's/^params = dir=h2d/params = direction=h2d/' "$local_profile" >typo.ini
    run -2 --separate-stderr "$CVB" certify typo.ini -o b -q
    [[ "$stderr" == *'no series of gpu.copy has "direction"'* ]]
    [ ! -e b ]
}

@test "run writes a result document of the contract's shape" {
    run -0 --separate-stderr "$CVB" run null.nop,mem.latency -s max_size=32KiB -n 3 --sample-ms 1 \
        -o out.json
    [[ "$output" == *"mem.latency/latency"*" ns"* ]]
    jq -e '.schema == "cvmbench.result/1" and .tool.name == "cvmbench"' out.json
    jq -e '.environment.kernel and .environment.cpu.model and .environment.labels.target == "local"' out.json
    jq -e '.benches[] | select(.name == "mem.latency") | .outcome == "ok" and .emulated == false' out.json
    jq -e '[.benches[].metrics[] | (.samples | length == 3) and (.value > 0) and .better == "lower" and
        .unit == (if .name == "null.nop/share" then "ratio" else "ns" end)] | all' out.json
    jq -e '[.benches[].metrics[] | select(.name == "mem.latency/latency") | .params.size_bytes] == [16384, 32768]' out.json
    # nothing is left behind
    ! ls -d cvmbench-scratch-* 2>/dev/null
}

@test "the emulated GPU is labelled, and cc=on really costs" {
    run -0 --separate-stderr "$CVB" run gpu.copy -g emu:h100-tdx,cc=on -n 1 --sample-ms 1 \
        -s min_size=64KiB -s max_size=64KiB --json
    jq -e '.benches[0].emulated == true' <<<"$output"
}

# Outcome of one benchmark on a GPU spec: STATUS BENCH SPEC OUTCOME [OPTION…]
on_gpu() {
    run "-$1" --separate-stderr "$CVB" run "$2" -g "$3" -n 2 --sample-ms 2 --json "${@:5}"
    jq -e --arg outcome "$4" '.benches[0] | .outcome == $outcome and
        ($outcome == "ok" or (.metrics == [] and (.reason | length > 10)))' <<<"$output"
}

@test "a wrong copy or product is untrusted and never a number" {
    small=(-s min_size=64KiB -s max_size=64KiB)
    for gpu in emu:h100-tdx emu:h100-tdx,cc=on; do
        on_gpu 5 gpu.copy "fault:$gpu" untrusted "${small[@]}"
        on_gpu 5 gpu.copy "fault:copy=30+/corrupt:$gpu" untrusted "${small[@]}"
        on_gpu 5 gpu.gemm "fault:gemm=all/corrupt:$gpu" untrusted -s n=64
        on_gpu 0 gpu.copy "fault:gemm=all/corrupt:$gpu" ok "${small[@]}"
        on_gpu 0 gpu.gemm "fault:launch=all/corrupt:$gpu" ok -s n=64
    done
    # one alone, the first batch after the 16 copies that fill the source: later ones do not hide it
    on_gpu 5 gpu.copy "fault:copy=17/corrupt:emu:h100-tdx" untrusted -s min_size=16MiB \
        -s max_size=16MiB -s dir=d2h -s mem=pinned
}

@test "a call that the GPU fails is a failure with a reason, not a number" {
    small=(-s min_size=64KiB -s max_size=64KiB)
    on_gpu 6 gpu.copy fault:copy=30/fail:emu:h100-tdx failed "${small[@]}"
    on_gpu 6 gpu.copy fault:alloc=3/fail:emu:h100-tdx,cc=on failed "${small[@]}"
    jq -e '.benches[0].reason | contains("injected fault: alloc number 3")' <<<"$output"
    run -2 --separate-stderr "$CVB" run gpu.copy -g fault:copi=1/fail:emu:h100-tdx
    [[ "$stderr" == *'"copi" cannot fail'* ]]
}

@test "a traced GPU tells its calls on stderr" {
    run -0 --separate-stderr "$CVB" run gpu.copy -g trace:emu:h100-tdx -n 1 --sample-ms 1 --json \
        -s min_size=64KiB -s max_size=64KiB
    [[ "$stderr" == *"gpu copy_async(stream="*"bytes=65536, dir=d2h) = 0 time_ns="* ]]
    jq -e '.benches[0] | .outcome == "ok" and .emulated' <<<"$output"
}

@test "hardware that is asked for and missing is UNSUPPORTED, exit 4" {
    # an empty CUDA_VISIBLE_DEVICES hides a GPU that this machine may have
    run -4 --separate-stderr env CUDA_VISIBLE_DEVICES= "$CVB" run gpu.copy -g cuda --json
    jq -e '.benches[0] | .outcome == "unsupported" and (.reason | length > 10) and .metrics == []' <<<"$output"
    jq -e '.benches[0].reason | test("libcuda.so.1|no CUDA backend|CUDA_ERROR_NO_DEVICE")' <<<"$output"
    run -4 --separate-stderr "$CVB" run gpu.copy
    [[ "$output" == *UNSUPPORTED*"-g"* ]]
    run -4 --separate-stderr "$CVB" run mem.latency -t qemu,accel=auto,tee=tdx
    [[ "$stderr" == *TDX* ]]
}

@test "missing fio and iperf3 are UNSUPPORTED and name the package" {
    mkdir bin
    for p in fio iperf3; do
        run -4 --separate-stderr env PATH="$PWD/bin" "$CVB" run \
            "$(if [ $p = fio ]; then echo disk.fio; else echo net.tcp; fi)" --json
        jq -e --arg p "$p" '.benches[0].reason | contains("Debian package " + $p)' <<<"$output"
    done
}

@test "a result that cannot be written is an error, not silence" {
    run -6 --separate-stderr "$CVB" run null.nop -n 1 --sample-ms 1 -o no/such/folder/out.json
    [[ "$stderr" == *no/such/folder/out.json* ]]
    [ -e /dev/full ] || skip "no /dev/full"
    run -6 bash -c "'$CVB' list >/dev/full"
}

@test "certify leaves a whole bundle; report makes it again" {
    run --separate-stderr "$CVB" certify "$local_profile" -o b --seed 5
    # how noisy the machine is decides which of them
    [[ "$status" =~ ^[135]$ ]]
    [[ "$output" == *"overall: "* ]]
    jq -e '.schema == "cvmbench.verdict/1" and .certifiable == false and (.gates | length == 2)' b/verdicts.json
    jq -e '[.gates[] | has("id") and has("metric") and has("arm") and has("base") and has("kind") and has("margin") and has("ratio") and has("lower") and has("upper") and has("sessions") and has("rounds") and has("pairing") and has("verdict") and has("reason")] | all' b/verdicts.json
    jq -e '.why_not | map(contains("emulated")) | any' b/verdicts.json
    grep -q '<svg' b/report.html
    ! grep -qE '<script|https?://[^w]' b/report.html
    head -1 b/journal.jsonl | jq -e '.type == "campaign" and .seed == 5'
    tail -1 b/journal.jsonl | jq -e '.type == "campaign_end"'
    [ ! -e b/scratch ]
    cp b/verdicts.json before.json
    rm b/verdicts.json b/report.html
    run -0 --separate-stderr "$CVB" report b
    cmp b/verdicts.json before.json
    [ -s b/report.html ]
    run -2 --separate-stderr "$CVB" certify "$local_profile" -o b
    [[ "$stderr" == *--resume* ]]
    # nothing was begun, so nothing was broken off
    [[ "$stderr" != *warning* ]]
}

@test "a folder with other things in it is never taken for a bundle" {
    mkdir -p home/scratch
    echo precious >home/scratch/data
    run -2 --separate-stderr "$CVB" certify "$local_profile" -o home
    [[ "$stderr" == *"not empty"* ]]
    [ "$(cat home/scratch/data)" = precious ]
    [ "$(ls home)" = scratch ]
}

@test "resume does not touch what is not a journal" {
    mkdir b
    cp "$local_profile" b/profile.ini
    printf 'some text\nwithout an end' >victim
    cp victim b/journal.jsonl
    run -2 --separate-stderr "$CVB" certify --resume b
    cmp victim b/journal.jsonl
    rm b/journal.jsonl
    mkfifo b/journal.jsonl
    run -2 --separate-stderr timeout 10 "$CVB" report b
}

@test "a bundle's own files are no pipes and no links; a profile that is named may be one" {
    "$CVB" certify "$local_profile" -o b -q >/dev/null || true
    mv b/profile.ini real.ini
    ln -s ../real.ini b/profile.ini
    run -2 --separate-stderr "$CVB" report b
    [[ "$stderr" == *"b/profile.ini is a link"* ]]
    run -2 --separate-stderr "$CVB" certify --resume b
    rm b/profile.ini
    mkfifo b/profile.ini
    run -2 --separate-stderr timeout 10 "$CVB" report b
    [[ "$stderr" == *"b/profile.ini is not a regular file"* ]]
    ln -s real.ini link.ini
    run --separate-stderr "$CVB" certify link.ini -o c -q
    [ -f c/report.html ]
}

@test "a campaign that goes on in a stranger's bundle writes into no folder outside" {
    "$CVB" certify "$local_profile" -o b -q >/dev/null || true
    # as if it had been cut off after the first session
    sed -i '/"type":"session_end"/q' b/journal.jsonl
    mkdir victim
    echo precious >victim/data
    ln -s ../victim b/scratch
    run --separate-stderr "$CVB" certify --resume b -q
    tail -1 b/journal.jsonl | jq -e '.type == "campaign_end"'
    [ "$(ls victim)" = data ]
    [ ! -e b/scratch ]
    sed -i '/"type":"session_end"/q' b/journal.jsonl
    rm -rf b/console
    ln -s ../victim b/console
    run -2 --separate-stderr "$CVB" certify --resume b -q
    [[ "$stderr" == *"b/console is a link"* ]]
    [ "$(ls victim)" = data ]
}

@test "what report writes replaces files and links, and goes through neither a link nor a pipe" {
    "$CVB" certify "$local_profile" -o b -q >/dev/null || true
    for name in verdicts.json report.html; do
        rm b/$name
        ln -s /dev/full b/$name
        run -0 --separate-stderr "$CVB" report b
        [ -f b/$name ]
        [ ! -L b/$name ]
        mv b/$name kept
        mkfifo b/$name
        run -2 --separate-stderr timeout 10 "$CVB" report b
        [[ "$stderr" == *"cannot write b/$name: it is not a file"* ]]
        mv kept b/$name
    done
}

@test "run -o writes through to stdout, stderr, a device or a pipe, and replaces other links" {
    # not /dev/stdout itself, which a mistake would replace
    ln -s /proc/self/fd/1 out
    ln -s /proc/self/fd/2 err
    for path in - out; do
        "$CVB" run null.nop -q -o "$path" >doc.json
        # the table follows the document
        jq -e '.schema == "cvmbench.result/1"' < <(sed '/^}$/q' doc.json)
        grep null.nop/cost < <(sed '1,/^}$/d' doc.json)
    done
    "$CVB" run null.nop -q -o err >table 2>doc.json
    jq -e '.schema == "cvmbench.result/1"' doc.json
    grep null.nop/cost table
    [ -L out ]
    [ -L err ]
    "$CVB" run null.nop -q -o out | cat >piped
    grep -q cvmbench.result/1 piped
    run -6 --separate-stderr "$CVB" run null.nop -q -o /dev/full
    [ -c /dev/full ]
    echo keep >victim
    ln -s victim link
    "$CVB" run null.nop -q -o link
    [ ! -L link ]
    [ "$(cat victim)" = keep ]
}

@test "run -o is refused before anything is measured if it cannot be written" {
    # net.udp alone would take eight seconds
    run -6 --separate-stderr timeout 5 "$CVB" run net.udp -n 2 -o none/doc.json
    [ "$stderr" = "cvmbench: error: cannot write none/doc.json: No such file or directory" ]
    mkdir folder
    run -2 --separate-stderr timeout 5 "$CVB" run net.udp -n 2 -o folder
    [ "$stderr" = "cvmbench: error: cannot write folder: it is a folder" ]
}

@test "run shows on a terminal where it is, -q and other places do not" {
    on_terminal() { script -qec "$CVB run null.nop,null.spin -n 2 $1" /dev/null </dev/null; }
    on_terminal >loud
    grep -q 'null.nop  set-up' loud
    grep -q 'null.spin  sample 2/2' loud
    on_terminal -q >quiet
    grep -q null.spin/rate quiet
    run ! grep -q 'sample 2/2' quiet
    run script -qec "$CVB certify $local_profile -o b -q" /dev/null </dev/null
    [[ "$output" == *overall:* && "$output" != *"session 1/"* ]]
    run -0 --separate-stderr "$CVB" run null.nop -n 2
    [ -z "$stderr" ]
}

@test "errors that come from the agent are whole texts, help lines up" {
    : >file
    run -2 --separate-stderr "$CVB" run gpu.copy -g fault:copy=0/fail:emu:h100-tdx
    [[ "$stderr" == *"copy=0; 3, 3+ or all is right"* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s path="$PWD/file"
    [[ "$stderr" == *"(such as jobs=randread-4k-1)"* && "$stderr" != *'?'* ]]
    run -2 --separate-stderr "$CVB" run disk.fio -s size=4KiB
    [[ "$stderr" == *"expected 8 MiB to 1024 TiB" ]]
    # every help text begins in column 28, also behind an ellipsis
    run -0 --separate-stderr "$CVB" list keys
    [[ "$output" == *$'\n  params=KEY=VALUE,…        which'* ]]
}

@test "text from a file cannot command the terminal" {
    printf '[profile]\n[\033[31mevil]\n' >p.ini
    run -2 --separate-stderr "$CVB" certify p.ini
    [[ "$stderr" != *$'\033'* ]]
}

@test "the name of a bundle cannot command the terminal" {
    run --separate-stderr "$CVB" certify "$local_profile" -o $'b\033[31m'
    [[ "$output" == *"Report: b?[31m/report.html"* ]]
    [[ "$stderr$output" != *$'\033'* ]]
    run -0 --separate-stderr "$CVB" report $'b\033[31m'
    [[ "$output" == *"Report: b?[31m/report.html"* ]]
}

@test "the same seed measures in the same order" {
    for i in 1 2; do
        "$CVB" certify "$local_profile" -o "b$i" --seed 99 -q >/dev/null || true
        jq -c 'select(.type == "sample") | [.session, .bench, .round, .position, .arm]' \
            "b$i/journal.jsonl" >"order$i"
    done
    [ "$(wc -l <order1)" -ge 20 ]
    cmp order1 order2
}

# Looks at 6 and 7 sessions: what is clear at 6 needs no seventh, what is not gets it.
@test "a campaign ends at the look that decides every gate" {
    cat >looks.ini <<'EOF'
[profile]
sessions = 7
looks = 6,7
rounds = 2
sample_ms = 1
[arm native]
[arm aa]
aa_of = native
[bench null.nop]
[gate cost]
metric = null.nop/cost
arm = aa
kind = absolute
limit = 1e9
EOF
    run -0 --separate-stderr "$CVB" certify looks.ini -o early
    [[ "$output" == *"98.25 % BOUNDS"* ]]
    [[ "$stderr" == *"no gate waits for more after 6 of at most 7"* ]]
    tail -1 early/journal.jsonl | jq -e '.type == "campaign_end" and .stopped_after == 6'
    jq -e '.gates[0] | .verdict == "PASS" and .sessions == 6 and .next_look == null' early/verdicts.json
    # a campaign that ended early is whole: nothing to resume, nothing missing
    before=$(wc -l <early/journal.jsonl)
    run -0 --separate-stderr "$CVB" certify --resume early
    [ "$(wc -l <early/journal.jsonl)" -eq "$before" ]
    jq -e '[.why_not[] | contains("sessions were completed")] | any | not' early/verdicts.json
    # a margin of 1 is decided at 6 sessions by luck only (3.5 %); else it takes the seventh
    sed -e '/^kind/d' -e 's/^limit.*/base = native\nmargin = 1/' looks.ini >tight.ini
    run --separate-stderr "$CVB" certify tight.ini -o late
    if tail -1 late/journal.jsonl | jq -e 'has("stopped_after")'; then
        jq -e ".gates[0].next_look == null" late/verdicts.json
    else
        [ "$(grep -c '"type":"session_end"' late/journal.jsonl)" -eq 7 ]
    fi
}

@test "warm-up and clocks are in the journal, and only where they mean something" {
    sed 's/^gpu = .*/&,clock=virtual/' "$local_profile" >virtual.ini
    run --separate-stderr "$CVB" certify virtual.ini -o b
    jq -es '[.[] | select(.type == "bench" and .bench == "mem.latency") |
             (.steady | length) == (.series | length) and .warmup_ns > 0 and .timer_ns > 0 and
             (.clock.error_ratio | fabs) < 0.001 + .clock.uncertainty_ratio] | length > 0 and all' b/journal.jsonl
    jq -es '[.[] | select(.type == "sample" and .bench == "mem.latency") | .shortest_ns >= 1000000] | all' b/journal.jsonl
    # what a busy machine does to the gate on its own clock is told; a virtual clock feels nothing
    jq -e '[.gates[] | (.pairing == "pair" and .rounds_voided == 0) or
             (.metric == "mem.latency/latency" and
              (.reason | test("the host took|throttled|clocks disagree|the clock of arm")))] |
           length == 2 and all' b/verdicts.json
    run -0 --separate-stderr "$CVB" run null.nop,null.spin --json
    # how small the harness's share is, check-reference tells; a CPU adds at .1 to 10 GHz, of which
    # a busy machine leaves less
    jq -e '[.benches[].metrics[] | select(.name == "null.nop/share") | .value > 0 and .value < 1] == [true]' <<<"$output"
    jq -e '[.benches[].metrics[] | select(.name == "null.spin/rate") | .value > 1e7 and .value < 1e10] == [true]' <<<"$output"
    jq -e '.benches[0].metrics[0].warm_up | . == "steady" or . == "no-steady-state" or . == "too-few"' <<<"$output"
}

@test "a killed campaign resumes and keeps what it had" {
    sed 's/^sample_ms = 2/sample_ms = 60/; s/^gpu = .*/&,clock=virtual/' "$local_profile" >slow.ini
    "$CVB" certify slow.ini -o b -q >/dev/null 2>&1 &
    pid=$!
    for _ in $(seq 2400); do
        grep -qs '"type":"bench_end"' b/journal.jsonl && break
        sleep 0.05
    done
    kill -KILL $pid
    wait $pid || true
    # every line but perhaps the last is whole
    head -n -1 b/journal.jsonl | jq -es 'length > 3'
    done_before=$(grep -c '"type":"bench_end"' b/journal.jsonl)
    printf '{"type":"sam' >>b/journal.jsonl
    run --separate-stderr "$CVB" certify --resume b
    [ "$status" -ne 2 ] && [ "$status" -ne 6 ]
    jq -es 'map(.type) | index("campaign_end") != null' b/journal.jsonl
    # three benchmarks in two sessions, none measured twice to the end
    [ "$(grep -c '"type":"bench_end"' b/journal.jsonl)" -eq 6 ]
    [ "$done_before" -ge 1 ]
    # of the gate on a virtual clock: a busy machine voids no round of it
    jq -e '[.gates[] | select(.metric == "gpu.copy/bandwidth") | .sessions] == [2]' b/verdicts.json
}

@test "resume goes on by the plan and the seed of the journal, or not at all" {
    "$CVB" certify "$local_profile" -o b -q --seed 99 >/dev/null || true
    # as if it had been killed in session 2
    cut=$(grep -n '"type":"session","session":2' b/journal.jsonl | cut -d: -f1)
    sed -i "$((cut + 1)),\$d" b/journal.jsonl
    cp b/journal.jsonl short
    for edit in 's/^sessions = 2/sessions = 3/' 's/^rounds = 2/rounds = 3/' \
        's/^\[bench null.nop\]/[bench null.spin]/' 's/^\[arm gpu-on\]/[arm gpu-2]/;s/= gpu-on/= gpu-2/'; do
        sed "$edit" "$local_profile" >b/profile.ini
        run -2 --separate-stderr "$CVB" certify --resume b -q
        [[ "$stderr" == *"journal.jsonl was not measured by this bundle's profile.ini"* ]]
        cmp short b/journal.jsonl
    done
    cp "$local_profile" b/profile.ini
    # the reader of the report takes a seed as text too, and so must this one
    sed -i '1s/"seed":99,/"seed":"x",/' b/journal.jsonl
    run -2 --separate-stderr "$CVB" certify --resume b -q
    [[ "$stderr" == *"the seed x is no whole number"* ]]
    sed -i '1s/"seed":"x",/"seed":"99",/' b/journal.jsonl
    run --separate-stderr "$CVB" certify --resume b -q
    [ "$status" -ne 2 ] && [ "$status" -ne 6 ]
    jq -es 'last.type == "campaign_end"
        and ([.[] | select(.type == "session" and .session == 2) | .attempt] == [1, 2])' b/journal.jsonl
    "$CVB" certify "$local_profile" -o whole -q --seed 99 >/dev/null || true
    order='[.[] | select(.type == "sample" and .session == 2) | [.bench, .round, .arm]]'
    [ "$(jq -cs "$order" b/journal.jsonl)" = "$(jq -cs "$order" whole/journal.jsonl)" ]
}

@test "an interrupted campaign ends its agents and says how to go on" {
    sed 's/^sample_ms = 2/sample_ms = 200/' "$local_profile" >slow.ini
    "$CVB" certify slow.ini -o b >/dev/null 2>err &
    pid=$!
    for _ in $(seq 1200); do
        grep -qs '"type":"sample"' b/journal.jsonl && break
        sleep 0.05
    done
    agents=$(pgrep -P $pid)
    [ -n "$agents" ]
    kill -TERM $pid
    status=0
    wait $pid || status=$?
    [ "$status" -eq 6 ]
    grep -q 'certify --resume b' err
    for a in $agents; do
        ! kill -0 "$a" 2>/dev/null
    done
    tail -1 b/journal.jsonl | jq -e '.type == "abort"'
}

@test "two campaigns cannot share a bundle" {
    sed 's/^sample_ms = 2/sample_ms = 200/' "$local_profile" >slow.ini
    "$CVB" certify slow.ini -o b -q >/dev/null 2>&1 &
    pid=$!
    for _ in $(seq 1200); do
        [ -s b/journal.jsonl ] && break
        sleep 0.05
    done
    run --separate-stderr "$CVB" certify --resume b
    kill -TERM $pid
    wait $pid || true
    [ "$status" -eq 6 ]
    [[ "$stderr" == *"in use"* ]]
}

@test "a full disk ends the campaign with the file's name and a readable journal" {
    mkdir small
    mount -t tmpfs -o size=96k tmpfs small 2>/dev/null || skip "cannot mount a tmpfs here"
    run --separate-stderr "$CVB" certify "$local_profile" -o small/b
    cp small/b/journal.jsonl journal || true
    umount small
    [ "$status" -eq 6 ]
    [[ "$stderr" == *small/b/*"No space left"* ]]
    jq -es 'length >= 1' journal
}

@test "a broken journal is named with its line" {
    "$CVB" certify "$local_profile" -o b -q >/dev/null || true
    sed -i '3s/.*/not json/' b/journal.jsonl
    run -2 --separate-stderr "$CVB" report b
    [[ "$stderr" == *journal.jsonl:3* ]]
    run -2 --separate-stderr "$CVB" report no-such-bundle
}

@test "a message holds nothing that a terminal would obey" {
    local c hostile
    # an escape, a C1 control, the mark and the order of a right-to-left text, one of its parts
    for c in '\033' '\302\233' '\330\234' '\342\200\217' '\342\200\256' '\342\201\247'; do
        hostile=$(printf '%b' "$c")
        printf '[arm x%sy]\n' "$hostile" >hostile.ini
        run -2 --separate-stderr "$CVB" certify ./hostile.ini -o b
        [[ $stderr == *"[arm x?"*"y]: a name is letters"* ]]
        run -1 env LC_ALL=C grep -F "$hostile" <<<"$stderr"
    done
    # other text is shown as it is
    printf '[arm ä→…]\n' >foreign.ini
    run -2 --separate-stderr "$CVB" certify ./foreign.ini -o b
    [[ $stderr == *"[arm ä→…]: a name is letters"* ]]
}

@test "the agent serves over plain pipes and refuses nonsense politely" {
    out=$(printf '%s\n' '{"id":1,"op":"fly"}' '{"id":2,"op":"sample","args":{}}' \
        '{"id":3,"op":"setup","args":{"bench":"null.nop","sample_ns":1000000}}' \
        '{"id":4,"op":"calibrate"}' '{"id":5,"op":"exit"}' | "$CVB" agent)
    jq -es '.[0].ready and (.[1].ok | not) and (.[2].ok | not) and .[3].ok and .[4].result.iters[0] > 0 and .[5].ok' <<<"$out"
}

# FOLDER SESSIONS BENCHES: the head of a bundle with 32 arms, 31 of them A/A.
large_bundle() {
    mkdir -p "$1"
    printf '[profile]\nsessions = 1\nrounds = 1\n[arm a0]\n[bench null.nop]\n' >"$1/profile.ini"
    jq -nc --argjson s "$2" --argjson b "$3" '[range(32) | "a\(.)"] as $arms | {type: "campaign",
        schema: "cvmbench.journal/1", profile: "p", seed: 7, sessions: $s, rounds: 1,
        arms: [$arms[] | {name: ., aa_of: (if . == "a0" then null else "a0" end)}],
        benches: [range($b) | {name: "b\(.)", arms: $arms, rounds: 1}]}' >"$1/journal.jsonl"
}

# The limit of time is there to end a hang: either takes seconds.
@test "as many metrics or parameters as a journal may have are reported" {
    large_bundle metrics 1 1
    jq -nc '{type: "bench", session: 1, attempt: 1, arm: "a0", bench: "b0", outcome: "ok",
        series: [range(16384) | {metric: "m\(.)", unit: "n", better: "higher"}]}' \
        >>metrics/journal.jsonl
    run -0 --separate-stderr timeout 60 "$CVB" report metrics
    large_bundle params 1 1
    jq -nc '[range(16384) | {metric: "m", unit: "n", better: "higher",
            params: ({z: .} + ([range(15) | {key: "p\(.)", value: 1}] | from_entries))}] as $series
        | {session: 1, attempt: 1, arm: "a0", bench: "b0"} | (. + {type: "bench", outcome: "ok",
            series: $series}, . + {type: "sample", round: 1, values: [range(16384)]},
            . + {type: "round", round: 1})' >>params/journal.jsonl
    run -0 --separate-stderr timeout 60 "$CVB" report params
}

@test "a journal needs memory for what it says, not for what it could say" {
    ! grep -q __asan_init "$CVB" || skip "the sanitizer reserves addresses of its own"
    large_bundle b 10000 8
    jq -nc 'range(1; 10001) as $s | {type: "session", session: $s, attempt: 1},
        (range(8) | {type: "bench", session: $s, attempt: 1, arm: "a0", bench: "b\(.)",
            outcome: "failed", reason: "no"})' >>b/journal.jsonl
    run -0 --separate-stderr bash -c 'ulimit -v 250000; "$0" report b' "$CVB"
}
