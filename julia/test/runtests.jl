# Claims about the Julia package alone; what concerns both languages is in parity_tests.

using PyganFlux, Test
using PyganFlux: Flux
using PyganFlux: Draws, FluxStack, keep, layout_table, normal, permutation, philox, pixels, published, state, step!
using PyganFlux: draw_words, png_bytes, picture_grid, safetensors_bytes, stream_id, to_flux, to_wire, uniform, sketch
using PyganFlux: sha256

narrow(; more...) = published("flux_tutorial"; width=2, latent_dim=5, batch=4, grid=2, more...)
images(n) = reshape(collect(Float32, range(-1, 1; length=28 * 28 * n)), 28, 28, 1, n)

@testset "Philox4x64-10 gives the published known answers" begin
    zeros4, ones4 = ntuple(_ -> UInt64(0), 4), ntuple(_ -> typemax(UInt64), 4)
    @test philox(zeros4, (UInt64(0), UInt64(0))) ==
        (0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b)
    @test philox(ones4, (typemax(UInt64), typemax(UInt64))) ==
        (0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0)
    counter = (0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89)
    @test philox(counter, (0x452821e638d01377, 0xbe5466cf34e90c6c)) ==
        (0xa528f45403e61d95, 0x38c72dbd566e9788, 0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6)
end

@testset "draws" begin
    draws = Draws(3, 5)
    x = normal(draws, "noise", (100, 1000))
    @test eltype(x) == Float32
    @test abs(sum(x) / length(x)) < 0.02
    @test abs(sum(abs2, x) / length(x) - 1) < 0.02
    @test all(0 .<= uniform(draws, "u", (1000,)) .< 1)
    @test abs(sum(keep(draws, "m", (100_000,), 0.3)) / 100_000 - 0.7) < 0.01
    @test sort(permutation(draws, "p", 1000)) == 1:1000
    @test draw_words(3, "a", 0, 7)[1:5] == draw_words(3, "a", 0, 5)
    @test stream_id("") == 0xcbf29ce484222325
    @test_throws ErrorException normal(Draws(0, 0, Dict{String,Any}("z" => zeros(Float32, 2))), "z", (3,))
end

@testset "every layout rule round trips" begin
    for rule in values(layout_table())
        array = reshape(collect(1.0:prod(2:(1 + length(rule.flux)))), ntuple(i -> i + 1, length(rule.flux)))
        @test to_flux(rule, to_wire(rule, array)) == array
    end
end

@testset "layers of branches have nested paths, and unknown parameters are refused" begin
    network = Flux.Chain(;
        first=Flux.Dense(3 => 3),
        way=Flux.SkipConnection(Flux.Chain(; inner=Flux.Dense(3 => 3), norm=Flux.LayerNorm(3)), +),
        both=Flux.Parallel(vcat; left=Flux.Dense(3 => 2), right=identity),
    )
    paths = ["first", "way.inner", "way.norm", "both.left", "both.right"]
    @test first.(PyganFlux.named_layers(network)) == paths
    tensors = Dict{String,Any}()
    PyganFlux.each_tensor((path, place, rule) -> (tensors[path] = PyganFlux.lying_at(network, place)), "n", network, PyganFlux.parameter_fields)
    @test tensors["n.way.norm.weight"] === network.layers.way.layers.layers.norm.diag.scale
    @test length(tensors) == 8
    @test isnothing(PyganFlux.check_known("n", network))
    strange = Flux.Chain(; way=Flux.SkipConnection(Flux.Chain(; scale=Flux.Scale(3)), +))
    @test_throws r"n\.way\.scale.*pygan does not know the parameters of a Scale" PyganFlux.check_known("n", strange)
end

@testset "a published recipe has Python's defaults, and refuses what Python refuses" begin
    c = published("mlp_gan")
    @test (c.recipe, c.width, c.scaling, c.learning_rate) == ("mlp_gan", 256, "x/127.5-1", 0.01)
    @test published("mlp_gan"; learning_rate=1).learning_rate === 1.0
    @test published("mlp_gan"; width="12", dtype="float64").width === 12
    @test_throws r"no recipe dcgan; known: flux_model_zoo, flux_tutorial, mlp_gan" published("dcgan")
    @test_throws r"mlp_gan has no field widht; known: batch," published("mlp_gan"; widht=3)
    @test_throws r"width must be of type Int64, got \"wide\"" published("mlp_gan"; width="wide")
    @test_throws r"batch = 1 is out of range: expected at least 2 \(BatchNorm\)" published("mlp_gan"; batch=1)
    @test_throws r"dtype = half is out of range: expected float32 \| float64" published("mlp_gan"; dtype="half")
    @test_throws r"learning_rate = 0.0 is out of range: expected above 0" published("mlp_gan"; learning_rate=0.0)
    @test_throws r"learning_rate = Inf is out of range" published("mlp_gan"; learning_rate=Inf)
    @test_throws r"no recipe strange in Julia" PyganFlux.config_from_dict(Dict("recipe" => "strange"))
    @test PyganFlux.config_dict(PyganFlux.config_from_dict(PyganFlux.config_dict(c))) == PyganFlux.config_dict(c)
end

@testset "every published recipe takes a step and draws pictures" for name in sort!(collect(keys(PyganFlux.PUBLISHED)))
    stack = FluxStack(published(name; width=2, latent_dim=5, batch=4, grid=2))
    @test all(isfinite, only(value) for (key, value) in step!(stack, images(4), Draws(0), ()) if startswith(key, "loss/"))
    @test size(PyganFlux.generate(stack, PyganFlux.picture_latent(stack.config, 0))) == (28, 28, 1, 4)
end

@testset "one step moves what it should ($semantics, $dtype)" for semantics in ("fixed", "as_printed"), dtype in ("float32", "float64")
    stack = FluxStack(narrow(; semantics, dtype))
    before = deepcopy(state(stack))
    out = step!(stack, images(4), Draws(0), ("gradients", "patterns", "state"))
    after = state(stack)
    moved(key) = before[key] != after[key]
    @test all(moved(key) for key in keys(after) if startswith(key, "parameter/discriminator"))
    @test all(moved(key) == (semantics == "fixed") for key in keys(after) if occursin("generator", key))
    @test any(startswith("gradient/generator"), keys(out)) == (semantics == "fixed")
    @test eltype(only(values(filter(p -> p.first == "loss/generator", out)))) == (dtype == "float64" ? Float64 : Float32)
end

@testset "watching every layer changes nothing and tells the order" begin
    plain, watched = FluxStack(narrow(; dtype="float64")), FluxStack(narrow(; dtype="float64"))
    step!(plain, images(4), Draws(0), ())
    order = String[]
    out = step!(watched, images(4), Draws(0), ("layers", "gradients", "patterns", "state", "logits"); order)
    @test state(plain) == state(watched)
    place(key) = findfirst(==(key), order)
    @test place("activation/sample/generator.tanh") < place("activation/fake/discriminator.input")
    @test place("gradient/discriminator/discriminator.dense.weight") < place("state/parameter/discriminator.dense.weight")
    @test place("state/buffer/generator.norm1.running_mean") < place("activation/generator/discriminator.input")
    @test allunique(order)
    modes = Dict(key => only(value) for (key, value) in out if startswith(key, "mode/"))
    @test count(values(modes)) == 6 + 3
    @test !any(value for (key, value) in modes if startswith(key, "mode/sample"))
    summed = sum(vec(sum(out["activation_gradient/$call/discriminator.dense"]; dims=2)) for call in ("real", "fake"))
    @test summed ≈ out["gradient/discriminator/discriminator.dense.bias"]
    @test out["pattern/generator/generator.relu1"] == (out["activation/generator/generator.relu1"] .> 0)
end

@testset "each faster form of the step gives the idiomatic step ($change)" for change in (PyganFlux.CHANGES..., "all")
    changes = change == "all" ? collect(PyganFlux.CHANGES) : [change]
    words = ("logits", "gradients", "patterns", "state")
    config = narrow(; dtype="float64")
    plain, tuned = FluxStack(config), FluxStack(PyganFlux.Tuned(config, changes))
    for step in 0:2
        expected, found = step!(plain, images(4), Draws(0, step), words), step!(tuned, images(4), Draws(0, step), words)
        @test keys(expected) == keys(found)
        @test all(isapprox(found[key], expected[key]; rtol=1e-8, atol=1e-13) for key in keys(expected))
        @test all(found[key] == expected[key] for key in keys(expected) if startswith(key, "pattern/"))
    end
end

@testset "forms that do the same operations give the same bits ($change)" for change in ("masks", "leaky")
    plain, tuned = FluxStack(narrow()), FluxStack(PyganFlux.Tuned(narrow(), [change]))
    for step in 0:2
        @test step!(plain, images(4), Draws(0, step), ("state",)) == step!(tuned, images(4), Draws(0, step), ("state",))
    end
end

@testset "products over patches are NNlib's ($T, stride $stride, padding $padding, flipped $flipkernel)" for
    T in (Float32, Float64), stride in (1, 2, (2, 1)), padding in (0, 1, (2, 1, 0, 3)), flipkernel in (false, true)
    NNlib = PyganFlux.NNlib
    # 200 images are more than a block a thread (64 of these small ones) and no multiple of it
    x, weight = randn(T, 9, 8, 3, 200), randn(T, 4, 3, 3, 5)
    dims = NNlib.DenseConvDims(size(x), size(weight); stride, padding, flipkernel)
    y = NNlib.conv(x, weight, dims)
    @test PyganFlux.serves(dims)
    patches = PyganFlux.Patches(dims)
    matrix = PyganFlux.as_matrix(weight, patches)
    close(a, b) = isapprox(a, b; rtol=100 * eps(T))
    @test PyganFlux.as_weight(matrix, patches) == weight
    @test close(PyganFlux.to_narrow(x, matrix, patches), y)
    @test close(PyganFlux.to_wide(y, matrix, patches), NNlib.∇conv_data(y, weight, dims))
    @test close(PyganFlux.by_weight(x, y, patches), NNlib.∇conv_filter(x, y, dims))
end

@testset "products by transforms are NNlib's ($T, size $size, kernel $kernel, padding $padding, flipped $flipkernel)" for
    T in (Float32, Float64), (size, kernel, padding) in ((7, 5, 2), (8, 5, 2), (5, 5, 1)), flipkernel in (false, true)
    NNlib = PyganFlux.NNlib
    out = size + kernel - 1 - 2 * padding
    x, dy, weight = randn(T, size, size, 3, 6), randn(T, out, out, 4, 6), randn(T, kernel, kernel, 4, 3)
    dims = NNlib.DenseConvDims((out, out, 4, 6), Base.size(weight); padding, flipkernel)
    @test PyganFlux.by_fourier(dims, 6)
    f = PyganFlux.Fourier(dims)
    y, gradients = @inferred PyganFlux.fourier_with_gradients(x, weight, f)
    dx, dw = gradients(dy, (data=true, weight=true))
    close(a, b) = isapprox(a, b; rtol=(T == Float32 ? 1e-5 : 1e-12))
    @test close(y, NNlib.∇conv_data(x, weight, dims))
    @test close(dx, NNlib.conv(dy, weight, dims))
    @test close(dw, NNlib.∇conv_filter(dy, x, dims))
    @test gradients(dy, (data=true, weight=true)) == (dx, dw)
    @test gradients(dy, (data=false, weight=true)) == (PyganFlux.ZeroTangent(), dw)
end

@testset "transforms serve only what they were written for" begin
    NNlib = PyganFlux.NNlib
    served(wide, kernel; images=6, more...) =
        PyganFlux.by_fourier(NNlib.DenseConvDims((wide..., 4, images), (kernel..., 4, 3); more...), images)
    @test PyganFlux.products(PyganFlux.Fourier(7, 5, 2, false)) == 121
    @test served((7, 7), (5, 5); padding=2)
    @test !served((7, 7), (5, 5); padding=2, images=1)
    @test !served((14, 14), (5, 5); padding=2, stride=2)
    @test !served((9, 9), (3, 3); padding=2, dilation=2)
    @test !served((7, 9), (5, 5); padding=2)
    @test !served((7, 7), (5, 3); padding=(2, 2, 1, 1))
    @test !served((7, 7), (5, 5); padding=(2, 1, 1, 2))
    @test !served((7, 7), (1, 1))
end

@testset "the order of an epoch is drawn once and is the draw" begin
    draws, config = Draws(4), published("flux_tutorial"; batch=4)
    expected = permutation(PyganFlux.at(draws, 2), "shuffle", 10)
    @test PyganFlux.batch_indices(config, draws, 10, 2 * 3) == expected[1:4]
    @test PyganFlux.batch_indices(config, draws, 10, 2 * 3 + 2) == expected[9:10]
    @test PyganFlux.batch_indices(config, Draws(5), 10, 2 * 3) != expected[1:4]
end

@testset "other orders of the images" begin
    indices(step; how...) = PyganFlux.batch_indices(published("flux_tutorial"; batch=4, how...), Draws(4), 10, step)
    @test indices(4; order="in_order") == 5:8
    @test indices(2; order="in_order", last_batch="dropped") == 1:4
    @test length(indices(7; order="with_replacement")) == 4
    @test indices(7; order="with_replacement") != indices(8; order="with_replacement")
    @test PyganFlux.buffer_shuffled(UInt64[5, 0, 1, 7], 2) == [2, 1, 3, 4]
    @test sort(reduce(vcat, [indices(step; order="buffer_shuffled", shuffle_buffer=3) for step in 0:2])) == 1:10
end

@testset "state survives a round trip and continues bit for bit" begin
    one, two = FluxStack(narrow()), FluxStack(narrow(; seed=9))
    step!(one, images(4), Draws(0), ())
    PyganFlux.load_state!(two, state(one))
    @test step!(one, images(4), Draws(0, 1), ("state",)) == step!(two, images(4), Draws(0, 1), ("state",))
    broken = delete!(state(one), "step")
    @test_throws "step is missing" PyganFlux.load_state!(two, broken)
end

@testset "pictures" begin
    # Known answer shared with tests/pictures/test_grid.py.
    values = reshape(Float32.(-32768:32768) ./ 32768.0f0, 1, 1, 1, :)
    @test bytes2hex(sha256(vec(pixels(values)))) |> startswith("10bf0f38")
    grid = picture_grid(images(4), 2)
    @test size(grid) == (56, 56)
    @test png_bytes(grid)[2:4] == codeunits("PNG")
end

@testset "damaged IDX files are errors" begin
    mktempdir() do folder
        path = joinpath(folder, "images")
        @test_throws "no file" PyganFlux.read_images(path)
        write(path, UInt8[0, 0, 8, 3])
        @test_throws "too short" PyganFlux.read_images(path)
        write(path, hton.(UInt32[0x803, 2, 28, 28]), zeros(UInt8, 28 * 28))
        @test_throws "its header promises" PyganFlux.read_images(path)
        write(path, hton.(UInt32[0x801, 2, 28, 28]), zeros(UInt8, 2 * 28 * 28))
        @test_throws "not an IDX image file" PyganFlux.read_images(path)
    end
end
