// A module for an ABI that no Envoy has.
const char *envoy_dynamic_module_on_program_init(void) { return "v99.0.0"; }
