-- What did not go the way that was meant for it, counted by model; serving.edge.runtime says what each
-- kind means. `show incidents` on the admin socket prints a line for each: model, kind, count.

local counts = {}

local incidents = {}

function incidents.count(model, kind)
    local of_model = counts[model]
    if of_model == nil then
        of_model = {}
        counts[model] = of_model
    end
    of_model[kind] = (of_model[kind] or 0) + 1
end

core.register_action('count', {'http-req'}, function(txn, kind)
    incidents.count(txn:get_var('txn.model'), kind)
end, 1)

local USAGE = 'show incidents : what did not go the way that was meant for it, by model'
core.register_cli({'show', 'incidents'}, USAGE, function(applet)
    for model, of_model in pairs(counts) do
        for kind, count in pairs(of_model) do
            applet:send(model .. ' ' .. kind .. ' ' .. count .. '\n')
        end
    end
end)

return incidents
