#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# NVIDIA GPUs on the command line, with the fake driver of tests/gpu/fake: what
# a result says of its GPU, missing libraries, errors. CVB is the program.

bats_require_minimum_version 1.5.0

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    : "${CVB:=$root/build/cvmbench}"
    export CVMBENCH_DATADIR=$root
    cd "$BATS_TEST_TMPDIR" || return 1
    all="libcuda.so.1 libnvidia-ml.so.1 libcublasLt.so.13"
    needs_driver
}

needs_driver() {
    [ -e "$(dirname "$CVB")/tests/gpu/fake/libcuda.so.1" ] || skip "this build has no CUDA backend"
}

# The fake NVIDIA driver of tests/gpu/fake: LINKS FIXTURE; the arguments after them are a command.
with_driver() {
    local fake links=$1 nvml=$2 l
    shift 2
    fake=$(dirname "$CVB")/tests/gpu/fake
    mkdir -p lib
    rm -f lib/*
    # no library: what else this machine has of that name is not looked for
    for l in libnvidia-ml.so.1 libcublasLt.so{.13,.12,}; do echo text >"lib/$l"; done
    for l in $links; do
        case $l in
        old) ln -sf "$fake/old.so" lib/libcuda.so.1 ;;
        old-nvml) ln -sf "$fake/old.so" lib/libnvidia-ml.so.1 ;;
        *) ln -sf "$fake/libcuda.so.1" "lib/$l" ;;
        esac
    done
    env LD_LIBRARY_PATH="$PWD/lib" FAKE_NVML="$root/tests/fixtures/nvml/$nvml.txt" "${@:?}"
}

# LINKS FIXTURE BENCH [OPTION]…
run_with_driver() {
    local links=$1 nvml=$2
    shift 2
    with_driver "$links" "$nvml" "$CVB" run "$@" -g cuda -n 1 --sample-ms 1 --json
}

@test "a result tells which GPU it is from, and what speaks against it" {
    run -0 --separate-stderr run_with_driver "$all" h100-cc-on gpu.copy -s max_size=4KiB
    jq -e '.benches[0] | .outcome == "ok" and (.emulated | not) and .gpu.cc.feature == "on" and
        .gpu.driver.vbios == "96.00.9F.00.01" and .gpu.pcie.width_max == 16 and
        .gpu.timing.events == "not trusted: confidential"' <<<"$output"
    run -0 --separate-stderr run_with_driver "$all" h100-devtools gpu.copy -s max_size=4KiB
    jq -e '.benches[0].notes | any(contains("devtools mode"))' <<<"$output"
}

@test "a CUDA library that is missing is named" {
    run -0 --separate-stderr run_with_driver libcuda.so.1 h100-cc-on gpu.copy -s max_size=4KiB
    jq -e '.benches[0] | .gpu.cc.feature == "unknown" and
        (.notes | any(contains("libnvidia-ml.so.1")))' <<<"$output"
    run -4 --separate-stderr run_with_driver "libcuda.so.1 libnvidia-ml.so.1" h100-cc-on gpu.gemm -s n=64
    jq -e '.benches[0] | .outcome == "unsupported" and (.reason | contains("libcublasLt.so.13"))' <<<"$output"
}

@test "a driver that is too old is told by what it lacks" {
    run -4 --separate-stderr run_with_driver old h100-cc-on gpu.copy
    jq -e '.benches[0].reason | contains("libcuda.so.1 has no cuGraphInstantiateWithFlags")' <<<"$output"
    # an old NVML answers the older question
    run -0 --separate-stderr run_with_driver "libcuda.so.1 old-nvml" h100-cc-on gpu.copy -s max_size=4KiB
    jq -e '.benches[0].gpu.cc | .feature == "on" and .multi_gpu == "unknown" and
        .source == "nvml ConfComputeState"' <<<"$output"
    # and the reasons of slow clocks by their older name
    run -0 --separate-stderr run_with_driver "libcuda.so.1 old-nvml" h100-hot gpu.copy -s max_size=4KiB
    jq -e '.benches[0].gpu_samples[0].slow == ["heat", "hardware"]' <<<"$output"
}

@test "an error of the driver is told with its call and its name" {
    export FAKE_CUDA_FAIL=cuMemAlloc_v2=1:700
    run -6 --separate-stderr run_with_driver "$all" h100-cc-off gpu.copy -s max_size=4KiB
    jq -e '.benches[0].reason | contains("cuMemAlloc: CUDA_ERROR_ILLEGAL_ADDRESS (700)")' <<<"$output"
}

@test "a sample has the state of the GPU around it, and a throttled one is marked" {
    run -0 --separate-stderr run_with_driver "$all" h100-load gpu.copy -s max_size=4KiB
    jq -e '.benches[0] | (.gpu_samples | length) == 1 and
        (.gpu_samples[0] | .sm_clock_mhz == [1755, 1755] and .slow == ["power"] and (.throttled | not)) and
        (.notes | all(contains("throttled") | not))' <<<"$output"
    run -0 --separate-stderr run_with_driver "$all" h100-hot gpu.copy -s max_size=4KiB
    jq -e '.benches[0] | .gpu_samples[0].throttled and
        (.notes | any(contains("1 of 1 samples were taken while the GPU was throttled")))' <<<"$output"
    # nothing is known, nothing is said
    run -0 --separate-stderr run_with_driver libcuda.so.1 h100-hot gpu.copy -s max_size=4KiB
    jq -e '.benches[0] | has("gpu_samples") | not' <<<"$output"
}

@test "devtools mode voids gates and comparisons, and says so" {
    cat >parity.ini <<'EOF'
[profile]
name = parity
sessions = 2
rounds = 2
sample_ms = 1
[arm one]
target = local
gpu = cuda
[arm two]
target = local
gpu = cuda
[bench gpu.copy]
max_size = 4KiB
[gate same]
metric = gpu.copy/bandwidth
arm = two
base = one
margin = 0.5
EOF
    run --separate-stderr with_driver "$all" h100-devtools "$CVB" certify parity.ini -o b -q
    jq -e '.overall == "INVALID" and (.gates | length > 0) and
        all(.gates[]; .verdict == "INVALID" and (.reason | startswith("devtools: the GPU of arm")))' b/verdicts.json
    run --separate-stderr with_driver "$all" h100-cc-on "$CVB" certify parity.ini -o good -q
    jq -e 'all(.gates[]; .reason // "" | contains("devtools") | not)' good/verdicts.json
    for f in h100-devtools h100-cc-on; do
        run_with_driver "$all" "$f" gpu.copy -s max_size=4KiB >"$f.json"
    done
    run --separate-stderr "$CVB" compare h100-cc-on.json h100-devtools.json --json
    jq -e '.overall == "INVALID" and (.errors[0] | .class == "invalid" and (.reason | contains("devtools")))' <<<"$output"
}

@test "processes of their own copy on a GPU with and without confidential mode" {
    for nvml in h100-cc-off h100-cc-on; do
        run -0 --separate-stderr run_with_driver "$all" $nvml gpu.scaling -s over=processes -s max=2 -s size=64KiB
        jq -e '.benches[0] | .outcome == "ok" and (.left_out | length == 0) and
            ([.metrics[] | select(.name == "gpu.scaling/bandwidth") | .params.n] | sort) == [1, 1, 2, 2]' <<<"$output"
        run -0 --separate-stderr run_with_driver "$all" $nvml gpu.lifecycle,gpu.load,gpu.capability
        jq -e 'all(.benches[]; .outcome == "ok") and
            ([.benches[].left_out[]? | .params | tostring | select(test("process"))] == [])' <<<"$output"
    done
}
