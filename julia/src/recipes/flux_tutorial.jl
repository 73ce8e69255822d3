# The DCGAN of the Flux tutorial in the explicit style of Flux 0.16 (facts/systems.md, section 1).
# Images (28, 28, 1, N) in [-1, 1], latent vectors (latent_dim, N), logits (1, N).

published_names(::Recipe{:flux_tutorial}, network) =
    network == "generator" ? (norm1=:relu1, norm2=:relu2, norm3=:relu3, conv3=:tanh) : (;)

kinks(::Recipe{:flux_tutorial}) = (:relu1, :relu2, :relu3, :leaky1, :leaky2)

function generator(c::Recipe{:flux_tutorial})
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

function discriminator(c::Recipe{:flux_tutorial})
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

networks(c::Recipe{:flux_tutorial}) = Dict("discriminator" => discriminator(c), "generator" => generator(c))

function optimisers(c::Recipe{:flux_tutorial})
    adam(rate) = Adam(constant(c, rate), (constant(c, c.beta1), constant(c, c.beta2)), constant(c, c.adam_eps))
    return Dict("discriminator" => adam(c.discriminator_lr), "generator" => adam(c.generator_lr))
end

"The published initial weights from the draws `init/<path>`, as wire arrays of the given PyTorch shape."
function initial_weight(c::Recipe{:flux_tutorial}, draws::Draws, stream, kind, dims)
    kind == "dense" || return normal(draws, stream, dims) .* Float32(c.init_std)
    fans = Float32(sum(dims))
    return (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / fans)
end

"""
One published step. Flux switches layers to train mode inside a gradient and only there, so the first `call` gives
test-mode fakes, and the generator's batch statistics move once, in its own update.
"""
function train_step!(run, c::Recipe{:flux_tutorial}, real)
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
function pictures(run, ::Recipe{:flux_tutorial}, latent)
    G = run.networks["generator"]
    return reduce((a, b) -> cat(a, b; dims=4), [call(run, "picture", "generator", G, latent[:, i:i]) for i in axes(latent, 2)])
end
