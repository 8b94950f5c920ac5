/* Any request: "METHOD TARGET", a newline, the body. It is answered exactly once: a JSON object, or
 * an error with a code and a message. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api_stub.h"

#define METHOD_BYTES 8u /* as api.c keeps it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end = memchr(text, '\n', size), *target;
	size_t head = end != NULL ? (size_t)(end - text) : size;
	char method[METHOD_BYTES] = "", *line = strndup(text, head);
	struct api_stub_answer a;

	if (line == NULL)
		abort();
	target = strchr(line, ' ');
	target = target != NULL ? target + 1 : "";
	strncpy(method, line, strcspn(line, " ") < 7 ? strcspn(line, " ") : 7);
	api_stub_call(&a, method, target, end != NULL ? end + 1 : "",
		      end != NULL ? size - head - 1 : 0);
	if (a.times != 1 || (a.err.code == 0) != json_is_object(a.body) ||
	    (a.err.code != 0 && a.err.msg[0] == '\0'))
		abort();
	json_decref(a.body);
	free(line);
	return 0;
}

/* A bug of libfyaml 0.7.12, see fuzz_conf.c. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libfyaml.so\n";
}
