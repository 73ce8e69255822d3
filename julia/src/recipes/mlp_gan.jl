# The MLP GAN of Keras-GAN in the explicit style of Flux 0.16 (pygan/recipes/mlp_gan.py says where it comes from).
# Images (28, 28, 1, N) in [-1, 1], latent vectors (latent_dim, N), probabilities (1, N).

"Every number of the recipe; Python checks them."
Base.@kwdef struct MlpGan
    recipe::String = "mlp_gan"
    seed::Int = 0
    device::String = "cpu"
    dtype::String = "float32"
    constants::String = "float32"
    randomness::String = "keyed"
    order::String = "with_replacement"
    shuffle_buffer::Int = 1000
    last_batch::String = "kept"
    scaling::String = "x/127.5-1"
    threads::Int = 0
    width::Int = 256
    latent_dim::Int = 100
    batch::Int = 32
    epochs::Int = 10000
    picture_every::Int = 200
    grid::Int = 5
    learning_rate::Float64 = 0.01
    leaky_slope::Float64 = 0.2
    bn_eps::Float64 = 1e-3
    bn_momentum::Float64 = 0.2
    clip::Float64 = 1e-7
end

published_names(::MlpGan, network) = network == "generator" ? (dense4=:tanh,) : (dense3=:sigmoid,)

kinks(::MlpGan) = (:leaky1, :leaky2, :leaky3)

function networks(c::MlpGan)
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

optimisers(c::MlpGan) = Dict(name => Descent(constant(c, c.learning_rate)) for name in ("discriminator", "generator"))

"Keras's Glorot-uniform weights from the draws `init/<path>`, as wire arrays."
initial_weight(::MlpGan, draws::Draws, stream, kind, dims) =
    (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / Float32(sum(dims)))

"Keras's binary cross-entropy: probabilities are clipped first."
function clipped_bce(c::MlpGan, probabilities, label)
    clip = constant(c, c.clip)
    T = eltype(probabilities)
    return Flux.Losses.binarycrossentropy(clamp.(probabilities, T(clip), T(1 - clip)), T(label); eps=zero(T))
end

function train_step!(run, c::MlpGan, real)
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
picture_latent(c::MlpGan, step) =
    normal(at(Draws(c.seed), step), "picture_latent", (c.latent_dim, c.grid^2))

pictures(run, ::MlpGan, latent) = call(run, "picture", "generator", run.networks["generator"], latent)

RECIPES["mlp_gan"] = MlpGan
