# The MLP GAN of Keras-GAN in the explicit style of Flux 0.16 (pygan/recipes/mlp_gan.py says where it comes from).
# Images (28, 28, 1, N) in [-1, 1], latent vectors (latent_dim, N), probabilities (1, N).

published_names(::Recipe{:mlp_gan}, network) = network == "generator" ? (dense4=:tanh,) : (dense3=:sigmoid,)

kinks(::Recipe{:mlp_gan}) = (:leaky1, :leaky2, :leaky3)

fresh_latent(::Recipe{:mlp_gan}) = true

function networks(c::Recipe{:mlp_gan})
    w, slope = c.width, Float32(c.leaky_slope)
    leaky(x) = leakyrelu.(x, slope)
    norm(size) = BatchNorm(size; eps=Float32(c.bn_eps), momentum=Float32(c.bn_momentum))
    generator = Chain(;
        dense1=Dense(c.latent_dim => w), leaky1=leaky, norm1=norm(w),
        dense2=Dense(w => 2w), leaky2=leaky, norm2=norm(2w),
        dense3=Dense(2w => 4w), leaky3=leaky, norm3=norm(4w),
        dense4=Dense(4w => 28 * 28, tanh),
        unflatten=x -> reshape(x, 28, 28, 1, :),
    )
    discriminator = Chain(;
        flatten=Flux.flatten,
        dense1=Dense(28 * 28 => 2w), leaky1=leaky,
        dense2=Dense(2w => w), leaky2=leaky,
        dense3=Dense(w => 1, sigmoid),
    )
    return Dict("discriminator" => discriminator, "generator" => generator)
end

optimisers(c::Recipe{:mlp_gan}) = Dict(name => Descent(constant(c, c.learning_rate)) for name in ("discriminator", "generator"))

"Keras's Glorot-uniform weights from the draws `init/<path>`, as wire arrays."
initial_weight(::Recipe{:mlp_gan}, draws::Draws, stream, kind, dims) =
    (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / Float32(sum(dims)))

"Keras's binary cross-entropy: probabilities are clipped first."
function clipped_bce(c::Recipe{:mlp_gan}, probabilities, label)
    clip = constant(c, c.clip)
    T = eltype(probabilities)
    return Flux.Losses.binarycrossentropy(clamp.(probabilities, T(clip), T(1 - clip)), T(label); eps=zero(T))
end

function train_step!(run, c::Recipe{:mlp_gan}, real)
    D, G = run.networks["discriminator"], run.networks["generator"]
    noise = on_device(run, normal(run.draws, "noise/discriminator", (c.latent_dim, c.batch)))
    fake = call(run, "sample", "generator", G, noise)
    for (name, images, label) in (("real", real, 1), ("fake", fake, 0))
        update!(run, "discriminator/$name") do discriminator
            clipped_bce(c, call(run, name, "discriminator", discriminator, images), label)
        end
    end
    noise = on_device(run, normal(run.draws, "noise/generator", (c.latent_dim, c.batch)))
    update!(run, "generator") do generator
        images = call(run, "generator", "generator", generator, noise)
        clipped_bce(c, call(run, "generator", "discriminator", D, images), 1)
    end
    return nothing
end

"Fresh latent vectors for the pictures of every step."
picture_latent(c::Recipe{:mlp_gan}, step) =
    normal(at(Draws(c.seed), step), "picture_latent", (c.latent_dim, c.grid^2))

pictures(run, ::Recipe{:mlp_gan}, latent) = call(run, "picture", "generator", run.networks["generator"], latent)
