# The DCGAN of the Flux tutorial in the explicit style of Flux 0.16 (facts/systems.md, section 1).
# Images (28, 28, 1, N) in [-1, 1], latent vectors (latent_dim, N), logits (1, N).

"Every number of the recipe; the values of a run come from Python's config or from `train.jl`'s flags."
Base.@kwdef struct FluxTutorial
    recipe::String = "flux_tutorial"
    seed::Int = 0
    device::String = "cpu"
    dtype::String = "float32"
    constants::String = "float32"
    randomness::String = "keyed"
    order::String = "shuffled"
    shuffle_buffer::Int = 1000
    last_batch::String = "kept"
    scaling::String = "2*x/255-1"
    threads::Int = 0
    semantics::String = "fixed"
    width::Int = 64
    latent_dim::Int = 100
    batch::Int = 128
    epochs::Int = 25
    picture_every::Int = 1000
    grid::Int = 5
    discriminator_lr::Float64 = 2e-4
    generator_lr::Float64 = 2e-4
    beta1::Float64 = 0.9
    beta2::Float64 = 0.999
    adam_eps::Float64 = 1e-8
    dropout::Float64 = 0.3
    leaky_slope::Float64 = 0.2
    init_std::Float64 = 0.02
    bn_eps::Float64 = 1e-5
    bn_momentum::Float64 = 0.1

    FluxTutorial(values...) = checked(new(values...))
end

function checked(c::FluxTutorial)
    must(holds, name, expected) = holds || error("$name = $(getfield(c, name)) is out of range: expected $expected")
    for (name, choices) in (
        :recipe => ("flux_tutorial",), :semantics => ("fixed", "as_printed"), :dtype => ("float32", "float64"),
        :constants => ("float32", "native"), :randomness => ("keyed", "native"), :device => ("cpu", "cuda"),
    )
        must(getfield(c, name) in choices, name, join(choices, " | "))
    end
    for name in (:width, :latent_dim, :epochs, :picture_every, :grid)
        must(getfield(c, name) >= 1, name, "at least 1")
    end
    must(c.batch >= 2, :batch, "at least 2 (BatchNorm)")
    must(c.seed >= 0, :seed, "at least 0")
    must(0 <= c.threads <= 1024, :threads, "0 .. 1024")
    for name in (:discriminator_lr, :generator_lr, :adam_eps, :init_std, :bn_eps, :bn_momentum)
        must(0 < getfield(c, name) < Inf, name, "above 0")
    end
    for name in (:beta1, :beta2, :dropout, :leaky_slope)
        must(0 <= getfield(c, name) < 1, name, "0 <= $name < 1")
    end
    return c
end

"The dtype in which networks and optimisers compute."
element_type(config) = config.dtype == "float64" ? Float64 : Float32

"A Float64 literal of the recipe as this run computes with it: rounded to Float32 unless constants are native."
constant(config, value) =
    config.dtype == "float64" && config.constants == "native" ? Float64(value) : Float64(Float32(value))

"Published names of the layers whose activation is fused into the layer before it."
published_names(::FluxTutorial, network) =
    network == "generator" ? (norm1=:relu1, norm2=:relu2, norm3=:relu3, conv3=:tanh) : (;)

"Published names of the layers with an on/off pattern."
kinks(::FluxTutorial) = (:relu1, :relu2, :relu3, :leaky1, :leaky2)

RECIPES["flux_tutorial"] = FluxTutorial

function generator(c::FluxTutorial)
    w = c.width
    init(dims...) = randn(Float32, dims...) .* Float32(c.init_std)
    norm(channels) = BatchNorm(channels, relu; eps=Float32(c.bn_eps), momentum=Float32(c.bn_momentum))
    return Chain(;
        dense=Dense(c.latent_dim => 7 * 7 * 4w; bias=false),
        norm1=norm(7 * 7 * 4w),
        unflatten=x -> reshape(x, 7, 7, 4w, :),
        conv1=ConvTranspose((5, 5), 4w => 2w; stride=1, pad=2, init, bias=false),
        norm2=norm(2w),
        conv2=ConvTranspose((4, 4), 2w => w; stride=2, pad=1, init, bias=false),
        norm3=norm(w),
        conv3=ConvTranspose((4, 4), w => 1, tanh; stride=2, pad=1, init, bias=false),
    )
end

function discriminator(c::FluxTutorial)
    w, slope = c.width, Float32(c.leaky_slope)
    init(dims...) = randn(Float32, dims...) .* Float32(c.init_std)
    dropout() = c.randomness == "native" ? Dropout(c.dropout) : DrawnDropout(c.dropout, constant(c, 1 / (1 - c.dropout)))
    return Chain(;
        conv1=Conv((4, 4), 1 => w; stride=2, pad=1, init),
        leaky1=x -> leakyrelu.(x, slope),
        drop1=dropout(),
        conv2=Conv((4, 4), w => 2w; stride=2, pad=1, init),
        leaky2=x -> leakyrelu.(x, slope),
        drop2=dropout(),
        flatten=Flux.flatten,
        dense=Dense(7 * 7 * 2w => 1),
    )
end

networks(c::FluxTutorial) = Dict("discriminator" => discriminator(c), "generator" => generator(c))

function optimisers(c::FluxTutorial)
    adam(rate) = Adam(constant(c, rate), (constant(c, c.beta1), constant(c, c.beta2)), constant(c, c.adam_eps))
    return Dict("discriminator" => adam(c.discriminator_lr), "generator" => adam(c.generator_lr))
end

"The published initial weights from the draws `init/<path>`, as wire arrays of the given PyTorch shape."
function initial_weight(c::FluxTutorial, draws::Draws, stream, kind, dims)
    kind == "dense" || return normal(draws, stream, dims) .* Float32(c.init_std)
    fans = Float32(sum(dims))
    return (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / fans)
end

"""
One published step. Flux switches layers to train mode inside a gradient and only there, so the first `call` gives
test-mode fakes, and the generator's batch statistics move once, in its own update.
"""
function train_step!(run, c::FluxTutorial, real)
    noise = on_device(run, normal(run.draws, "noise", (c.latent_dim, c.batch)))
    D, G = run.networks["discriminator"], run.networks["generator"]
    fake = call(run, "sample", "generator", G, noise)

    update!(run, "discriminator") do discriminator
        real_logits = call(run, "real", "discriminator", discriminator, real)
        fake_logits = call(run, "fake", "discriminator", discriminator, fake)
        record!(run, "logits/real", real_logits)
        record!(run, "logits/fake", fake_logits)
        logitbinarycrossentropy(real_logits, 1) + logitbinarycrossentropy(fake_logits, 0)
    end

    update!(run, "generator") do generator
        images = c.semantics == "fixed" ? call(run, "generator", "generator", generator, noise) : fake
        logits = call(run, "generator", "discriminator", D, images)
        record!(run, "logits/generator", logits)
        logitbinarycrossentropy(logits, 1)
    end
    return nothing
end

"Pictures (28, 28, 1, n): the generator in test mode on each latent vector alone."
function pictures(run, ::FluxTutorial, latent)
    G = run.networks["generator"]
    return reduce((a, b) -> cat(a, b; dims=4), [call(run, "picture", "generator", G, latent[:, i:i]) for i in axes(latent, 2)])
end
