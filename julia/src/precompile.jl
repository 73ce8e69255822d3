# Compiles, while the package precompiles, what a worker is asked for: every request of the flux stack and of the
# benchmarks, as JSON over the wire, for a narrow config of each dtype. What a request needs and does not find here it
# compiles at its first use, which a user waits for (tools/cold_start.py measures how long).

@compile_workload begin
    mktempdir() do folder
        requests, replies = joinpath(folder, "request"), joinpath(folder, "reply")
        foreach(touch, (requests, replies))
        lines, answers = joinpath(folder, "lines"), joinpath(folder, "answers")
        narrow(dtype) = config_dict(published("flux_tutorial"; width=2, latent_dim=5, batch=4, grid=2, dtype))
        images = Dict("dtype" => "F32", "shape" => [4, 1, 28, 28], "offset" => 0)
        write(requests, collect(Float32, range(-1, 1; length=4 * 28 * 28)))
        asked = Any[Dict("request" => requests, "reply" => replies)]
        ask(op, arrays=Dict(); fields...) =
            push!(asked, Dict("op" => op, "arrays" => arrays, (string(key) => value for (key, value) in fields)...))
        everything = ["logits", "gradients", "patterns", "sketches", "state", "layers", "layer_sketches"]
        for dtype in ("float32", "float64")
            ask("configure"; config=narrow(dtype), blas_threads=1)
            ask("initialise")
            for (step, capture) in enumerate((String[], ["gradients", "patterns", "state"], everything))
                ask("step", Dict("batch" => images); seed=0, step=step - 1, capture)
            end
            ask("generate", Dict("latent" => Dict("dtype" => "F32", "shape" => [4, 5], "offset" => 0)))
            ask("time_steps", Dict("batch/0" => images); seed=0, step=3, batches=1)
            foreach(ask, ("state", "rules", "describe"))
        end
        for changes in (nothing, collect(CHANGES))
            ask("bench_configure"; config=narrow("float32"), blas_threads=1, changes)
            foreach(ask, ("bench_facts", "initialise"))
            ask("step", Dict("batch" => images); seed=0, step=0, capture=["gradients", "patterns", "state"])
            ask("bench_steps", Dict("batch/0" => images); seed=0, step=1, batches=1)
        end
        write(lines, join(JSON.json.(asked), "\n"))
        open(lines) do input
            open(output -> serve_lines(input, output), answers, "w")
        end
        refused = filter(contains("\"error\""), readlines(answers))
        isempty(refused) || error("a request of the precompiled workload failed: $(first(refused))")
        serve("{}")  # an error, answered as one
        load_state!(WORKER[].stack, state(WORKER[].stack))
        foreach(close, (WORKER[].request, WORKER[].reply))
        WORKER[].stack = nothing
    end
end
