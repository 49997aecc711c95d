-- Two headers as metadata, for custom tags.
function envoy_on_request(handle)
  local headers, metadata = handle:headers(), handle:streamInfo():dynamicMetadata()
  local user, tenant = headers:get("x-user-id"), headers:get("x-tenant-id")
  if user then metadata:set("attributes", "user.id", user) end
  if tenant then metadata:set("attributes", "tenant.id", tenant) end
end
