/*
 * CPU templates of the hosts a machine may run on. A guest that has seen a feature of its processor
 * uses it for ever, and its memory does not go on where that is missing: so it is never shown what
 * one of them lacks. Each host says by `lifeboat vm cpu` what it has; the machine's `cpu` names a
 * file of those lines; what is common is made each time the machine is started cold.
 */
#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent_api_int.h"
#include "base/err.h"
#include "base/fs.h"
#include "proc_int.h"
#include "vmcore/host.h"
#include "vms_int.h"

#define TEXT_MAX (UINT64_C(1) << 20)

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c != '\0' ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

static int one_line(struct vm_cpu *io, const char *line, size_t len, struct lb_err *err)
{
	uint8_t bytes[VM_CPU_MAX_BYTES];
	struct vm_cpu *other;
	int rc;

	if (len % 2 != 0 || len / 2 > sizeof(bytes))
		return lb_err_set(err, LB_EINPUT, 0, "no CPU template");
	for (size_t i = 0; i < len / 2; i++) {
		int high = digit(line[2 * i]), low = digit(line[2 * i + 1]);

		if (high < 0 || low < 0)
			return lb_err_set(err, LB_EINPUT, 0, "no CPU template");
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	other = malloc(sizeof(*other));
	if (other == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "CPU template");
	rc = vm_cpu_decode(other, bytes, len / 2, err);
	if (rc == 0)
		rc = vm_cpu_intersect(io, io, other, err);
	else if (rc != LB_EVERSION && err != NULL)
		rc = err->code = LB_EINPUT;
	free(other);
	return rc;
}

int sa_vmcpu_intersect(struct vm_cpu *io, const char *text, struct lb_err *err)
{
	unsigned number = 1;

	for (const char *p = text; *p != '\0'; number++) {
		size_t len = strcspn(p, "\n"), used = len;
		int rc = 0;

		while (used > 0 && isspace((unsigned char)p[used - 1]))
			used--;
		if (used > 0 && p[0] != '#')
			rc = one_line(io, p, used, err);
		if (rc != 0)
			return lb_err_wrap(err, rc, "line %u", number);
		p += len + (p[len] == '\n');
	}
	return 0;
}

int sa_vmcpu_of_hosts(uint8_t *out, size_t *bytes, const char *path, struct lb_err *err)
{
	struct vm_cpu *cpu = malloc(sizeof(*cpu));
	char *text = malloc(TEXT_MAX);
	size_t len = 0;
	int rc = 0;

	if (cpu == NULL || text == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "CPU templates");
	if (rc == 0)
		len = sa_read_text(path, text, TEXT_MAX);
	if (rc == 0 && (len == 0 || len == TEXT_MAX - 1 || strlen(text) != len))
		rc = lb_err_set(err, LB_EINPUT, 0, "cannot be read, is empty or no text");
	if (rc == 0)
		rc = vm_cpu_of_host(cpu, err);
	if (rc == 0)
		rc = sa_vmcpu_intersect(cpu, text, err);
	if (rc == 0) {
		*bytes = vm_cpu_encode(out, VM_CPU_MAX_BYTES, cpu);
		rc = *bytes > 0 ? 0 : lb_err_set(err, LB_EUNSUPPORTED, 0, "template too large");
	}
	free(cpu);
	free(text);
	return rc != 0 ? lb_err_wrap(err, rc, "CPU templates of %s", path) : 0;
}

void sa_get_cpu(struct call *c)
{
	uint8_t bytes[VM_CPU_MAX_BYTES];
	struct vm_cpu *cpu = malloc(sizeof(*cpu));
	char text[2 * VM_CPU_MAX_BYTES + 1];
	struct vm_host host;
	struct lb_err err = {0};
	size_t n = 0;
	int rc = cpu == NULL ? lb_err_set(&err, LB_ENOMEM, 0, "CPU template")
			     : vm_cpu_of_host(cpu, &err);

	if (rc == 0)
		n = vm_cpu_encode(bytes, sizeof(bytes), cpu);
	free(cpu);
	if (rc != 0) {
		sa_api_fail(c->rq, &err, NULL);
		return;
	}
	for (size_t i = 0; i < n; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	text[2 * n] = '\0';
	vm_probe(&host);
	sa_api_answer(c->rq, json_pack("{s:s, s:s, s:s}", "site", c->agent->cfg->site, "model",
				       host.cpu_model, "template", text));
}
