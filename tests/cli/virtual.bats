#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The emulated GPU on a virtual clock, from the command line.

bats_require_minimum_version 1.5.0

setup_file() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    export root
    export CVMBENCH_DATADIR=$root
    export CVB=${CVB:-$root/build/cvmbench}
}

sweep() { # SPEC FILE
    "$CVB" run gpu.copy -g "$1" -s min_size=64 -s max_size=4GiB -s step=4 -o "$2" >/dev/null
}

@test "list skus tells value, unit, grade and source of every parameter" {
    run -0 --separate-stderr "$CVB" list skus --json
    jq -e '[.skus[].name] == ["b200-tdx", "b300-tdx", "h100-tdx", "h100nvl-snp", "h200-tdx",
        "rtxpro6000-tdx"]' <<<"$output"
    jq -e '[.skus[].error] | all(. == null)' <<<"$output"
    jq -e '[.skus[].parameters[] | .name, .unit | type] | all(. == "string")' <<<"$output"
    jq -e '[.skus[].parameters[] | .off, .on | select(. != null)] | length > 700 and
        all((.value == null) == (.grade == "unknown") and (.value == null or (.source | length) > 3))' <<<"$output"
    jq -e '.skus[] | select(.name == "h100-tdx").parameters[] | select(.name == "launch") |
        .unit == "ns" and .off.value == 4900 and .on.value == 9880 and .on.grade == "measured"' <<<"$output"
}

@test "two runs on the virtual clock give the same document" {
    sweep emu:h100-tdx,cc=on,clock=virtual "$BATS_TEST_TMPDIR/a"
    sweep emu:h100-tdx,cc=on,clock=virtual "$BATS_TEST_TMPDIR/b"
    cmp <(jq -S .benches "$BATS_TEST_TMPDIR/a") <(jq -S .benches "$BATS_TEST_TMPDIR/b")
    jq -e '.benches[0] | .outcome == "ok" and .deterministic and .emulated' "$BATS_TEST_TMPDIR/a"
    # 64 MiB: published as 22112 us
    jq -e '[.benches[0].metrics[] | select(.name == "gpu.copy/latency" and .params.dir == "h2d" and
        .params.mem == "pinned" and .params.size_bytes == 67108864).value] |
        length == 1 and (.[0] / 22112e3 - 1 | fabs) < 0.1' "$BATS_TEST_TMPDIR/a"
}

@test "noise follows its seed" {
    for seed in 1 1 2; do
        "$CVB" run gpu.copy -g "emu:h100-tdx,clock=virtual,noise=3,seed=$seed" -s max_size=64KiB \
            -o "$BATS_TEST_TMPDIR/$seed.$((n++))" >/dev/null
    done
    cmp <(jq -S .benches "$BATS_TEST_TMPDIR/1.0") <(jq -S .benches "$BATS_TEST_TMPDIR/1.1")
    run ! cmp -s <(jq -S .benches "$BATS_TEST_TMPDIR/1.0") <(jq -S .benches "$BATS_TEST_TMPDIR/2.2")
    run -2 --separate-stderr "$CVB" run gpu.copy -g emu:h100-tdx,noise=3
    [[ "$stderr" == *'clock=virtual'* ]]
    run -2 --separate-stderr "$CVB" run gpu.copy -g emu:h100-tdx,clock=virtual,noise=nan
    [[ "$stderr" == *'noise=nan'* ]]
}

@test "what is not published is unsupported by name, or left out of a sweep" {
    run -4 --separate-stderr "$CVB" run gpu.copy -g emu:b200-tdx,clock=virtual -s mem=pageable
    [[ "$output$stderr" == *'b200-tdx'*'pageable_h2d_toll is unknown'* ]]
    run -0 --separate-stderr "$CVB" run gpu.copy -g emu:b300-tdx,cc=on,clock=virtual -s max_size=64KiB --json
    jq -e '[.benches[0].metrics[].params | .dir + .mem] | unique ==
        ["d2hpinned", "duplexpinned", "h2dpageable", "h2dpinned"]' \
        <<<"$output"
    run -4 "$CVB" run gpu.gemm -g emu:rtxpro6000-tdx,clock=virtual -s n=64
}

@test "a product of 8192 is checked by samples" {
    run -0 --separate-stderr "$CVB" run gpu.gemm -g emu:h100-tdx,cc=on,clock=virtual -s n=8192 --json
    jq -e '.benches[0] | .outcome == "ok" and ([.metrics[].value] | all(. > 5.9e13))' <<<"$output"
    run -5 "$CVB" run gpu.gemm -g fault:gemm=all/corrupt:emu:h100-tdx,clock=virtual -s n=512
    run -5 "$CVB" run gpu.copy -g fault:copy=all/corrupt:emu:h100-tdx,clock=virtual
}

@test "a model with a mistake is told by file, line and key" {
    mkdir -p "$BATS_TEST_TMPDIR/data/profiles/gpu"
    sed 's/^off = 2014/off = 1e999/' "$root/profiles/gpu/h100-tdx.ini" \
        >"$BATS_TEST_TMPDIR/data/profiles/gpu/h100-tdx.ini"
    CVMBENCH_DATADIR=$BATS_TEST_TMPDIR/data run -2 --separate-stderr "$CVB" run gpu.copy \
        -g emu:h100-tdx,clock=virtual
    [[ "$output$stderr" == *'h100-tdx.ini:'*'off = 1e999'* ]]
    CVMBENCH_DATADIR=$BATS_TEST_TMPDIR/data run -0 --separate-stderr "$CVB" list skus --json
    jq -e '.skus | length == 1 and (.[0].error | contains("off = 1e999"))' <<<"$output"
}
