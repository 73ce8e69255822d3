# The layout table (share/layouts.toml): between Flux's arrays and wire arrays, whose axes are PyTorch's reversed.

struct LayoutRule
    name::String
    torch::Vector{String}
    flux::Vector{String}
    flip::Vector{String}
end

const LAYOUT_TABLE = Ref{Dict{String,LayoutRule}}()

function layout_table()
    if !isassigned(LAYOUT_TABLE)
        raw = TOML.parsefile(joinpath(SHARE, "layouts.toml"))
        LAYOUT_TABLE[] = Dict(
            "$kind.$tensor" => LayoutRule("$kind.$tensor", row["torch"], row["flux"], row["flip"]) for
            (kind, tensors) in raw for (tensor, row) in tensors
        )
    end
    return LAYOUT_TABLE[]
end

function layout_rule(name::AbstractString)
    rules = layout_table()
    haskey(rules, name) || error("no layout rule $name; known: $(join(sort!(collect(keys(rules))), ", "))")
    return rules[name]
end

function moved(array::AbstractArray, from::Vector{String}, to::Vector{String}, rule::LayoutRule)
    ndims(array) == length(from) ||
        error("layout rule $(rule.name) wants axes $(join(from, ", ")), got size $(size(array))")
    places = [findfirst(==(axis), from) for axis in to]
    ordered = places == 1:length(places) ? array : permutedims(array, places)
    flips = Tuple(findall(in(rule.flip), to))
    return isempty(flips) ? Array(ordered) : reverse(ordered; dims=flips)
end

"A wire array as Flux indexes it (a new array)."
to_flux(rule::LayoutRule, wire::AbstractArray) = moved(wire, reverse(rule.torch), rule.flux, rule)

"A Flux array as it goes over the wire (a new array)."
to_wire(rule::LayoutRule, array::AbstractArray) = moved(array, rule.flux, reverse(rule.torch), rule)
