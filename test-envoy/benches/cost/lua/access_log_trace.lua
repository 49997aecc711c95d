-- The ids of traceparent as metadata, for the access log.
function envoy_on_request(handle)
  local traceparent = handle:headers():get("traceparent")
  if traceparent then
    local trace_id, span_id, flags = string.match(traceparent, "^00%-(%x+)%-(%x+)%-(%x+)$")
    if trace_id then
      local metadata = handle:streamInfo():dynamicMetadata()
      metadata:set("ids", "trace_id", trace_id)
      metadata:set("ids", "parent_span_id", span_id)
      metadata:set("ids", "trace_flags", flags)
    end
  end
end
