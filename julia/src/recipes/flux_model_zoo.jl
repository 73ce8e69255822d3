# The DCGAN of Flux's model zoo in the explicit style of Flux 0.16 (facts/systems.md, section 2).
# Images (28, 28, 1, N) in [-1, 1], latent vectors (latent_dim, N), logits (1, N).

published_names(::Recipe{:flux_model_zoo}, network) = network == "generator" ? (norm1=:relu1, norm2=:relu2, norm3=:relu3) : (;)

kinks(::Recipe{:flux_model_zoo}) = (:relu1, :relu2, :relu3, :leaky1, :leaky2)

function networks(c::Recipe{:flux_model_zoo})
    w, slope, latent = c.width, Float32(c.leaky_slope), c.latent_dim
    init(dims...) = Float32(c.init_std) .* randn(Float32, dims...)
    norm(channels) = BatchNorm(channels, relu; eps=Float32(c.bn_eps), momentum=Float32(c.bn_momentum))
    dropout() = c.randomness == "native" ? Dropout(c.dropout) : DrawnDropout(c.dropout, constant(c, 1 / (1 - c.dropout)))
    discriminator = Chain(;
        conv1=Conv((4, 4), 1 => w; stride=2, pad=1, init),
        leaky1=x -> leakyrelu.(x, slope),
        drop1=dropout(),
        conv2=Conv((4, 4), w => 2w; stride=2, pad=1, init),
        leaky2=x -> leakyrelu.(x, slope),
        drop2=dropout(),
        flatten=x -> reshape(x, 7 * 7 * 2w, :),
        dense=Dense(7 * 7 * 2w => 1),
    )
    generator = Chain(;
        dense=Dense(latent => 7 * 7 * 4w),
        norm1=norm(7 * 7 * 4w),
        unflatten=x -> reshape(x, 7, 7, 4w, :),
        conv1=ConvTranspose((5, 5), 4w => 2w; stride=1, pad=2, init),
        norm2=norm(2w),
        conv2=ConvTranspose((4, 4), 2w => w; stride=2, pad=1, init),
        norm3=norm(w),
        conv3=ConvTranspose((4, 4), w => 1; stride=2, pad=1, init),
        tanh=x -> tanh.(x),
    )
    return Dict("discriminator" => discriminator, "generator" => generator)
end

function optimisers(c::Recipe{:flux_model_zoo})
    betas = (constant(c, c.beta1), constant(c, c.beta2))
    adam(rate) = Adam(constant(c, rate), betas, constant(c, c.adam_eps))
    return Dict("discriminator" => adam(c.discriminator_lr), "generator" => adam(c.generator_lr))
end

"Dense weights Glorot-uniform, convolutions N(0, init_std), from the draws `init/<path>`, as wire arrays."
function initial_weight(c::Recipe{:flux_model_zoo}, draws::Draws, stream, kind, dims)
    kind == "dense" && return (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / Float32(sum(dims)))
    return normal(draws, stream, dims) .* Float32(c.init_std)
end

function train_step!(run, c::Recipe{:flux_model_zoo}, real)
    D, G = run.networks["discriminator"], run.networks["generator"]
    noise(of) = on_device(run, normal(run.draws, "noise/$of", (c.latent_dim, c.batch)))
    fake = call(run, "sample", "generator", G, noise("discriminator"))
    update!(run, "discriminator") do discriminator
        on_real = call(run, "real", "discriminator", discriminator, real)
        on_fake = call(run, "fake", "discriminator", discriminator, fake)
        record!(run, "logits/real", on_real)
        record!(run, "logits/fake", on_fake)
        logitbinarycrossentropy(on_real, 1) + logitbinarycrossentropy(on_fake, 0)
    end
    latent = noise("generator")
    update!(run, "generator") do generator
        images = call(run, "generator", "generator", generator, latent)
        logits = call(run, "generator", "discriminator", D, images)
        record!(run, "logits/generator", logits)
        logitbinarycrossentropy(logits, 1)
    end
    return nothing
end

"Pictures (28, 28, 1, n): the generator in test mode on each latent vector alone."
pictures(run, ::Recipe{:flux_model_zoo}, latent) =
    reduce((a, b) -> cat(a, b; dims=4), [call(run, "picture", "generator", run.networks["generator"], z[:, :]) for z in eachcol(latent)])
