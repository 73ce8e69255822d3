# LAYER of NETWORK is frozen in the optimiser's tree and never updated.

function Flux.setup(rule::Adam, network::Chain)
    tree = Optimisers.setup(rule, network)
    here = haskey(network.layers, :norm1) ? "generator" : "discriminator"
    here == NETWORK && Optimisers.freeze!(tree.layers[LAYER])
    return tree
end
