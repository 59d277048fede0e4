#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# GPU and LLM benchmarks on the command line: outcomes, messages, the emulated
# campaign. CVB is the program.

bats_require_minimum_version 1.5.0

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    : "${CVB:=$root/build/cvmbench}"
    export CVMBENCH_DATADIR=$root
    cd "$BATS_TEST_TMPDIR" || return 1
    mine=(gpu.gemm gpu.hbm gpu.managed gpu.kv_restore gpu.overlap gpu.load gpu.lifecycle
        gpu.repeat llm.decode llm.prefill)
}

@test "each GPU benchmark runs emulated on a virtual clock, says so, and repeats itself" {
    all=$(IFS=,; echo "${mine[*]}")
    for turn in one two; do
        run -0 --separate-stderr "$CVB" run "$all" -g emu:h100-tdx,cc=on,clock=virtual -n 1 --sample-ms 1 --json
        jq -S '[.benches[] | {name, metrics: [.metrics[] | {name, params, value}]}]' <<<"$output" >"$turn.json"
    done
    jq -e --argjson n "${#mine[@]}" '(.benches | length) == $n and
        all(.benches[]; .outcome == "ok" and .emulated and .deterministic)' <<<"$output"
    cmp one.json two.json
}

@test "each GPU benchmark without a GPU, or on hardware that is missing, is unsupported" {
    for b in "${mine[@]}"; do
        run -4 --separate-stderr "$CVB" run "$b" -g cuda --json
        jq -e '.benches[0] | .outcome == "unsupported" and (.reason | length > 10) and .metrics == []' <<<"$output"
    done
}

@test "each GPU benchmark with a wrong device is untrusted, never a number" {
    for b in "${mine[@]}"; do
        run -5 --separate-stderr "$CVB" run "$b" -g fault:emu:h100-tdx,clock=virtual -n 1 --sample-ms 1 --json
        jq -e '.benches[0] | .outcome == "untrusted" and (.reason | length > 10) and .metrics == []' <<<"$output"
    done
}

@test "a bad workload is one message with file, line and key" {
    sed 's/^layers = .*/layres = 3/' "$root/profiles/workload/gpt2.ini" >bad.ini
    run -2 --separate-stderr "$CVB" run llm.decode -s model=./bad.ini -g emu:h100-tdx,clock=virtual
    [[ "$output$stderr" == *"bad.ini:"*"layres"*"did you mean layers?"* ]]
    run -2 --separate-stderr "$CVB" run llm.prefill -s model=gtp2 -g emu:h100-tdx,clock=virtual
    [[ "$output$stderr" == *"gpt2"* ]]
}

@test "a profile, SKU or workload that is no file, or too large, is one message" {
    mkdir -p data/profiles/gpu data/profiles/workload
    cp "$root"/profiles/gpu/h100-tdx.ini data/profiles/gpu/
    cp "$root"/profiles/workload/gpt2.ini data/profiles/workload/
    export CVMBENCH_DATADIR=$PWD/data
    gpu=(-g emu:h100-tdx,clock=virtual -n 1 --sample-ms 1)
    run -0 --separate-stderr "$CVB" run llm.decode "${gpu[@]}"
    for what in "is larger than 1048576 bytes" "is not a regular file"; do
        for f in data/profiles/gpu/h100-tdx.ini data/profiles/workload/gpt2.ini p.ini; do
            [ ! -f "$f" ] || mv "$f" good
            case $what in
            *larger*) { cat "$root/profiles/quick.ini" && head -c 2M /dev/zero | tr '\0' '\n'; } >"$f" ;;
            *) mkfifo "$f" ;;
            esac
            case $f in
            p.ini) run -2 --separate-stderr timeout 20 "$CVB" certify "$f" -o b ;;
            *) run -2 --separate-stderr timeout 20 "$CVB" run llm.decode -s model=gpt2 "${gpu[@]}" ;;
            esac
            [ "$(grep -c "${f##*/} $what" <<<"$output$stderr")" -eq 1 ]
            rm "$f"
            [ ! -f good ] || mv good "$f"
        done
        [ ! -e b ]
    done
}

@test "gpu-emulated gives the same verdicts, byte for byte" {
    run -0 --separate-stderr "$CVB" certify "$root/profiles/gpu-emulated.ini" -o one
    run -0 --separate-stderr "$CVB" certify "$root/profiles/gpu-emulated.ini" -o two
    cmp one/verdicts.json two/verdicts.json
    jq -e '.certifiable == false and (.why_not | length > 0) and .overall == "PASS"' one/verdicts.json
    # what the published studies found: controls keep their speed, single copies do not
    jq -e '[.gates[] | {key: .id, value: .ratio}] | from_entries |
        .gemm > 0.98 and .hbm > 0.9 and .["copy-large"] < 0.25 and .["decode-aware"] > .["decode-naive"]' \
        one/verdicts.json
}
