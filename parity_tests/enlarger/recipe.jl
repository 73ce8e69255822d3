# The enlarger in Flux: padding inside the convolutions, the branch as a SkipConnection.
# Images (28, 28, 1, N) in [-1, 1], pictures (14, 14, 1, N) in [0, 1].

# PyTorch crops in a layer of its own what is padding of the transposed convolution here.
published_names(::Recipe{:enlarger}, network) = (; Symbol("body.up") => Symbol("body.crop"))

kinks(::Recipe{:enlarger}) = ()

function networks(c::Recipe{:enlarger})
    w, eps = c.width, 1.0f-5
    dropout = c.randomness == "native" ? Dropout(c.dropout) : DrawnDropout(c.dropout, 1 / (1 - c.dropout))
    body = Chain(;
        down=Conv((4, 4), w => w + 2; stride=2, pad=(1, 2, 1, 2)),
        soft=x -> softplus.(x),
        drop=dropout,
        up=ConvTranspose((4, 4), w + 2 => w; stride=2, pad=(1, 2, 1, 2)),
    )
    enlarger = Chain(;
        shrink=MeanPool((4, 4)),
        stem=Conv((4, 4), 1 => w; pad=(1, 2, 1, 2)),
        norm=GroupNorm(w, 2; eps),
        gelu=x -> gelu.(x),
        body=SkipConnection(body, +),
        settle=LayerNorm((7, 7, w); eps),
        out=Conv((3, 3), w => 1; pad=1),
        enlarge=Upsample(:nearest; scale=2),
        tone=x -> sigmoid.(x),
    )
    return Dict("enlarger" => enlarger)
end

optimisers(c::Recipe{:enlarger}) = Dict(
    "enlarger" => Adam(constant(c, c.learning_rate), (constant(c, 0.9), constant(c, 0.999)), constant(c, 1e-8)),
)

function initial_weight(::Recipe{:enlarger}, draws::Draws, stream, kind, dims)
    fans = prod(dims[1:(end - 2)]) * (dims[end - 1] + dims[end])
    return (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / Float32(fans))
end

brightness(pictures) = sum(pictures; dims=(1, 2, 3)) ./ prod(size(pictures)[1:3])

function loss_of(made, wanted, c)
    softening, weight = eltype(made).(constant.(Ref(c), (c.softening, c.brightness)))
    softened = sum(sqrt.((made .- wanted) .^ 2 .+ softening)) / length(made)
    return softened + weight * sum(abs2, brightness(made) .- brightness(wanted)) / size(made, 4)
end

function train_step!(run, c::Recipe{:enlarger}, real)
    wanted = (MeanPool((2, 2))(real) .+ 1) ./ 2
    update!(run, "enlarger") do enlarger
        made = call(run, "images", "enlarger", enlarger, real)
        record!(run, "logits/images", made)
        loss_of(made, wanted, c)
    end
    return nothing
end
