# A recipe's config. What fields it has, their defaults and ranges are declared in Python (pygan/config.py), which checks
# the values before it sends them; for runs without Python share/recipes.toml says the same of the published recipes.

"""
The config of a run of the recipe `name`: one value by field, such as `c.width`. A recipe's Julia file adds methods for
`Recipe{:name}`: `networks`, `optimisers`, `initial_weight`, `train_step!`, and `pictures` where it draws some.
"""
struct Recipe{name,Fields<:NamedTuple}
    fields::Fields
end

function Recipe(values::AbstractDict)
    name = Symbol(get(values, "recipe", ""))
    fields = (; sort!([Symbol(field) => value for (field, value) in values]; by=first)...)
    return Recipe{name,typeof(fields)}(fields)
end

Base.getproperty(c::Recipe, field::Symbol) = getproperty(getfield(c, :fields), field)
Base.propertynames(c::Recipe) = keys(getfield(c, :fields))

config_dict(c) = Dict{String,Any}(string(field) => getproperty(c, field) for field in propertynames(c))

"The config that Python's `to_dict` described."
function config_from_dict(values::AbstractDict)
    c = Recipe(values)
    hasmethod(networks, Tuple{typeof(c)}) || error(
        "no recipe $(get(values, "recipe", nothing)) in Julia: its file must define networks(c::Recipe{:NAME}), with the " *
        "NAME of the Python config",
    )
    return c
end

include_dependency(joinpath(SHARE, "recipes.toml"))
"Fields of the published recipes by name: `default`, the range as Python declares it, and its words."
const PUBLISHED = TOML.parsefile(joinpath(SHARE, "recipes.toml"))

"The config of a published recipe: its defaults but for what is `chosen`, a text being read as the field's type."
function published(name::AbstractString; chosen...)
    haskey(PUBLISHED, name) || error("no recipe $name; known: $(join(sort!(collect(keys(PUBLISHED))), ", "))")
    fields = PUBLISHED[name]
    unknown = setdiff(string.(keys(chosen)), keys(fields))
    isempty(unknown) || error("$name has no field $(join(unknown, ", ")); known: $(join(sort!(collect(keys(fields))), ", "))")
    of(field) = checked(field, fields[field], get(chosen, Symbol(field), fields[field]["default"]))
    return Recipe(Dict{String,Any}("recipe" => name, (field => of(field) for field in keys(fields))...))
end

"`value` in the field's type. Raises where it is none, or out of the declared range."
function checked(field, declared, value)
    T = typeof(declared["default"])
    made = if value isa T
        value
    elseif value isa AbstractString
        tryparse(T, value)
    else
        value isa Real && T <: AbstractFloat ? T(value) : nothing
    end
    isnothing(made) && error("$field must be of type $T, got $(repr(value))")
    within(declared, made) || error("$field = $made is out of range: expected $(declared["expected"])")
    return made
end

within(declared, value::AbstractString) = value in get(declared, "choices", (value,))
within(declared, value) =
    isfinite(value) && value > get(declared, "above", -Inf) && value >= get(declared, "at_least", -Inf) &&
    value < get(declared, "below", Inf) && value <= get(declared, "at_most", Inf)

"The dtype in which networks and optimisers compute."
element_type(config) = config.dtype == "float64" ? Float64 : Float32

"A Float64 literal of the recipe as this run computes with it: rounded to Float32 unless constants are native."
constant(config, value) =
    config.dtype == "float64" && config.constants == "native" ? Float64(value) : Float64(Float32(value))

"Published names of the layers whose activation is fused into the layer before it, by the Chain's own name."
published_names(config, network) = (;)

"Published names of the layers with an on/off pattern."
kinks(config) = ()

"Is every picture made from latent vectors of its own step, and not from those of the whole run?"
fresh_latent(config) = false
