# The Adam of NETWORK has other numbers than the published ones.

function optimisers(c::Recipe{:flux_tutorial})
    adam(rate) = Adam(constant(c, rate), (constant(c, c.beta1), constant(c, c.beta2)), constant(c, c.adam_eps))
    made = Dict("discriminator" => adam(c.discriminator_lr), "generator" => adam(c.generator_lr))
    right = made[NETWORK]
    made[NETWORK] = Adam(right.eta * LR, (something(BETA1, right.beta[1]), right.beta[2]), right.epsilon * EPS)
    return made
end
