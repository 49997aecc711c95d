// Stands in for Envoy: loads the native tracer, gives it a configuration and one request, and prints what it is told.
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *start;
    size_t length;
} buffer;

static buffer of(const char *text) { return (buffer){text, strlen(text)}; }

static bool is(buffer name, const char *text) {
    return name.length == strlen(text) && memcmp(name.start, text, name.length) == 0;
}

#define CALLBACK(name) envoy_dynamic_module_callback_##name

void CALLBACK(log)(uint32_t level, buffer line) { printf("log %u %.*s\n", level, (int)line.length, line.start); }
bool CALLBACK(is_validation_mode)(void) { return true; }
bool CALLBACK(tracer_get_trace_context_value)(void *request, buffer name, buffer *value) {
    if (!is(name, "x-b3-traceid") && !is(name, "x-b3-spanid") && !is(name, "x-b3-sampled")) return false;
    *value = of(is(name, "x-b3-traceid")  ? "463ac35c9f6413ad48485a3953bb6124"
                : is(name, "x-b3-spanid") ? "a2fb4a1d1a96d312"
                                          : "1");
    return true;
}
void CALLBACK(tracer_set_trace_context_value)(void *request, buffer name, buffer value) {
    printf("%.*s: %.*s\n", (int)name.length, name.start, (int)value.length, value.start);
}
void CALLBACK(tracer_remove_trace_context_value)(void *request, buffer name) {}
bool CALLBACK(tracer_get_trace_context_protocol)(void *request, buffer *value) { return false; }
bool CALLBACK(tracer_get_trace_context_host)(void *request, buffer *value) { return false; }
bool CALLBACK(tracer_get_trace_context_path)(void *request, buffer *value) { return false; }
bool CALLBACK(tracer_get_trace_context_method)(void *request, buffer *value) { return false; }
uint32_t CALLBACK(tracer_define_counter)(void *config, buffer name, const buffer *labels, size_t count, size_t *id) {
    *id = 0;
    return 0;
}
uint32_t CALLBACK(tracer_increment_counter)(void *config, size_t id, const buffer *labels, size_t count, uint64_t by) {
    return 0;
}
// The export is not tried.
void *CALLBACK(http_filter_config_scheduler_new)(void *config) { return NULL; }
void CALLBACK(http_filter_config_scheduler_delete)(void *scheduler) {}
void CALLBACK(http_filter_config_scheduler_commit)(void *scheduler, uint64_t event) {}
uint32_t CALLBACK(http_filter_config_http_callout)(void) { return 4; }
uint32_t CALLBACK(http_filter_config_start_http_stream)(void) { return 4; }
bool CALLBACK(http_filter_config_stream_send_data)(void) { return false; }
void *CALLBACK(bootstrap_extension_config_scheduler_new)(void *config) { return NULL; }
void CALLBACK(bootstrap_extension_config_scheduler_delete)(void *scheduler) {}
void CALLBACK(bootstrap_extension_config_scheduler_commit)(void *scheduler, uint64_t event) {}
uint32_t CALLBACK(bootstrap_extension_http_callout)(void) { return 4; }
void CALLBACK(bootstrap_extension_config_signal_init_complete)(void *config) {}

static void *symbol(void *module, const char *name) {
    char full[128];
    snprintf(full, sizeof full, "envoy_dynamic_module_on_%s", name);
    void *found = dlsym(module, full);
    if (found == NULL) {
        printf("%s\n", dlerror());
        exit(1);
    }
    return found;
}

int main(int argc, char **argv) {
    // As Envoy opens it.
    void *module = dlopen(argc > 1 ? argv[1] : "", RTLD_LAZY | RTLD_LOCAL);
    if (module == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    const char *(*init)(void) = (const char *(*)(void))symbol(module, "program_init");
    void *(*configure)(void *, buffer, buffer) =
        (void *(*)(void *, buffer, buffer))symbol(module, "tracer_config_new");
    void *(*start)(void *, void *, buffer, bool, uint32_t) =
        (void *(*)(void *, void *, buffer, bool, uint32_t))symbol(module, "tracer_start_span");
    void (*inject)(void *, void *) = (void (*)(void *, void *))symbol(module, "tracer_span_inject_context");
    void (*finish)(void *) = (void (*)(void *))symbol(module, "tracer_span_finish");
    void (*destroy)(void *) = (void (*)(void *))symbol(module, "tracer_span_destroy");

    const char *version = init();
    printf("ABI %s\n", version == NULL ? "none" : version);
    void *refused = configure(NULL, of("mesh_tracing"), of("{\"report\": {}}"));
    printf("without a cluster: %s\n", refused == NULL ? "refused" : "taken");
    void *config = configure(NULL, of("mesh_tracing"), of("{\"report\": {\"cluster\": \"collector\"}}"));
    if (config == NULL) return 1;
    void *span = start(config, NULL, of("ingress"), true, 2);
    if (span == NULL) return 1;
    inject(span, NULL);
    finish(span);
    destroy(span);
    puts("done");
    return 0;
}
