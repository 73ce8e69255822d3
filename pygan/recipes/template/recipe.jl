# MODEL in Flux. Images (28, 28, 1, N) in [-1, 1], logits (2, N): upright, turned.
# A worker evaluates this file inside the module PyganFlux, whose functions it extends.

# The config `c` has the fields of the Python side's `Config`, checked there, and those that every recipe has.

# Layers of the Chain that PyTorch has as two: here Flux computes the relu with the Dense.
published_names(::Recipe{:MODEL}, network) = (hidden=:relu,)

# Layers whose sign patterns are recorded.
kinks(::Recipe{:MODEL}) = (:relu,)

function networks(c::Recipe{:MODEL})
    # Patterns of dropout are draws by name, `mask/<call>/<network>.<layer>`; `Dropout` alone would draw its own.
    dropout = c.randomness == "native" ? Dropout(c.dropout) : DrawnDropout(c.dropout, 1 / (1 - c.dropout))
    classifier = Chain(;
        flatten=Flux.flatten,
        hidden=Dense(28 * 28 => c.width, relu),
        drop=dropout,
        out=Dense(c.width => 2),
    )
    return Dict("classifier" => classifier)
end

function optimisers(c::Recipe{:MODEL})
    return Dict("classifier" => Adam(constant(c, c.learning_rate), (constant(c, 0.9), constant(c, 0.999)), constant(c, 1e-8)))
end

"Glorot-uniform from the draws `init/<path>`: an array of PyTorch's shape in reverse."
function initial_weight(::Recipe{:MODEL}, draws::Draws, stream, kind, dims)
    fans = prod(dims[1:(end - 2)]) * (dims[end - 1] + dims[end])
    return (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / Float32(fans))
end

turned_images(draws::Draws, count) = keep(draws, "turned", (count,), 0.5)
turned_images(::NativeDraws, count) = rand(Bool, count)

function train_step!(run, c::Recipe{:MODEL}, real)
    turned = turned_images(run.draws, size(real, 4))
    images = copy(real)
    images[:, :, :, turned] = reverse(real[:, :, :, turned]; dims=(1, 2))
    labels = Flux.onehotbatch(turned, (false, true))
    update!(run, "classifier") do classifier
        logits = call(run, "images", "classifier", classifier, images)
        record!(run, "logits/images", logits)
        Flux.Losses.logitcrossentropy(logits, labels)
    end
    return nothing
end
