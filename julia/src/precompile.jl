# Compiles a narrow training step of each dtype while the package precompiles, so that a worker's first step does not
# wait for Zygote's code to be generated.

@compile_workload begin
    for dtype in ("float32", "float64")
        config = FluxTutorial(; width=2, latent_dim=5, batch=4, grid=2, dtype)
        stack = FluxStack(config_from_dict(config_dict(config)))
        batch = reshape(collect(Float32, range(-1, 1; length=28 * 28 * 4)), 28, 28, 1, 4)
        for capture in (String[], ["logits", "gradients", "patterns", "sketches", "state", "layers", "layer_sketches"])
            step!(stack, batch, Draws(0, stack.steps), capture)
        end
        load_state!(stack, state(stack))
        layout_rules(stack)
        generate(stack, fixed_latent(config))
        time_steps!(stack, [batch], Draws(0))
    end
    mktempdir() do folder
        requests, replies = joinpath(folder, "request"), joinpath(folder, "reply")
        foreach(touch, (requests, replies))
        attach(requests, replies)
        config = config_dict(FluxTutorial(; width=2, latent_dim=5, batch=4, grid=2))
        serve(JSON.json(Dict("op" => "configure", "config" => config, "blas_threads" => 1, "arrays" => Dict())))
        foreach(op -> serve(JSON.json(Dict("op" => op, "arrays" => Dict()))), ("state", "rules", "describe", "unknown"))
        close(WORKER[].request)
        close(WORKER[].reply)
        WORKER[].stack = nothing
    end
end
