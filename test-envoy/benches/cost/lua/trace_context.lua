-- B3 single to W3C, without a check of what came.
function envoy_on_request(handle)
  local headers = handle:headers()
  local b3 = headers:get("b3")
  if b3 then
    local trace_id, span_id, sampled = string.match(b3, "^(%x+)-(%x+)-?(%w?)")
    if trace_id then
      if #trace_id == 16 then trace_id = "0000000000000000" .. trace_id end
      local flags = (sampled == "1" or sampled == "d") and "01" or "00"
      headers:replace("traceparent", "00-" .. trace_id .. "-" .. span_id .. "-" .. flags)
    end
  end
end
