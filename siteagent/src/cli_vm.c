/*
 * `lifeboat vm`: machines that run here under lifeboat-vm. Console and screenshots speak with the
 * machine's own control socket, whose path the agent tells: it is root's and the agent's, as is
 * everything that changes something.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <locale.h>
#include <png.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "cli_int.h"
#include "vmcore/ctl.h"

#define CELL       128u
#define ESCAPE     0x1d /* ^] */
#define TIMEOUT_NS UINT64_C(10000000000)

static int vm_get(struct cli *c, const char *tail, json_t **out)
{
	char part[CLI_PART_BYTES], path[CLI_PATH_BYTES];

	(void)snprintf(path, sizeof(path), "/v1/vms/%s%s", cli_part(part, c->arg[0]), tail);
	return cli_call(c, "GET", path, NULL, out);
}

/* ---- looking ---- */

static void vm_row(struct cli_table *t, const json_t *o)
{
	char name[CELL], kind[CELL], state[CELL], pid[24] = "-", ram[LB_HUMAN_BYTES] = "-",
						  cpus[24] = "-", up[LB_HUMAN_BYTES] = "-",
						  where[CELL], last[CELL];
	bool runs = json_object_get(o, "pid") != NULL;

	if (runs) {
		(void)snprintf(pid, sizeof(pid), "%" PRIu64, cli_u64(o, "pid"));
		(void)snprintf(cpus, sizeof(cpus), "%" PRIu64, cli_u64(o, "cpus"));
		(void)lb_human_bytes(ram, cli_u64(o, "ram_bytes"));
		(void)lb_human_duration(up, cli_u64(o, "up_ns"));
	}
	(void)cli_text(where, sizeof(where), o,
		       json_object_get(o, "group") != NULL ? "group" : "run");
	if (json_object_get(o, "run") != NULL)
		where[8] = '\0';
	(void)cli_text(last, sizeof(last), o,
		       json_object_get(o, "problem") != NULL ? "problem" : "last_event");
	cli_table_row(t, (const char *[]){cli_text(name, sizeof(name), o, "name"),
					  cli_text(kind, sizeof(kind), o, "kind"), where,
					  cli_text(state, sizeof(state), o, "state"), pid, cpus,
					  ram, up, last});
}

static void print_vms(const json_t *list)
{
	static const char *const head[] = {"VM",   "KIND",   "OF", "STATE", "PID",
					   "CPUS", "MEMORY", "UP", "NOTE",  NULL};
	struct cli_table *t = cli_table_new(head);
	size_t i;
	json_t *o;

	json_array_foreach(list, i, o)
	{
		vm_row(t, o);
	}
	cli_table_print(t, stdout);
}

int cli_vm_list(struct cli *c)
{
	json_t *o = NULL;
	int rc = cli_call(c, "GET", "/v1/vms", NULL, &o);

	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	print_vms(json_object_get(o, "vms"));
	json_decref(o);
	return 0;
}

/* A name from elsewhere ends no comment. */
int cli_vm_cpu(struct cli *c)
{
	char site[CELL], model[CELL];
	json_t *o = NULL;
	int rc = cli_call(c, "GET", "/v1/cpu", NULL, &o);

	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	(void)printf("# %s: %s\n%s\n", cli_text(site, sizeof(site), o, "site"),
		     cli_text(model, sizeof(model), o, "model"),
		     json_string_value(json_object_get(o, "template")));
	json_decref(o);
	return 0;
}

static void print_one(json_t *o)
{
	json_t *list = json_pack("[O]", o);
	const json_t *stats = json_object_get(o, "stats");
	char last[LB_HUMAN_BYTES], most[LB_HUMAN_BYTES];

	print_vms(list);
	json_decref(list);
	if (stats == NULL)
		return;
	(void)printf("cuts %" PRIu64 ", last pause %s, longest %s, %" PRIu64
		     " pages changed at the last\n",
		     cli_u64(stats, "cuts"),
		     lb_human_duration(last, cli_u64(stats, "pause_last_ns")),
		     lb_human_duration(most, cli_u64(stats, "pause_max_ns")),
		     cli_u64(stats, "dirty_last_pages"));
	if (cli_u64(stats, "lazy_left_pages") > 0)
		(void)printf("%" PRIu64 " pages of its memory are still at the recovery point\n",
			     cli_u64(stats, "lazy_left_pages"));
}

int cli_vm_show(struct cli *c)
{
	json_t *o = NULL;
	int rc = vm_get(c, "", &o);

	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	print_one(o);
	json_decref(o);
	return 0;
}

/* ---- acting ---- */

static int command(struct cli *c, const char *name)
{
	char part[CLI_PART_BYTES], path[CLI_PATH_BYTES];
	json_t *body = json_pack("{s:s}", "command", name), *o = NULL;
	int rc;

	if (c->confirm != NULL)
		(void)json_object_set_new(body, "confirm", json_string(c->confirm));
	(void)snprintf(path, sizeof(path), "/v1/vms/%s/command", cli_part(part, c->arg[0]));
	rc = cli_call(c, "POST", path, body, &o);
	if (rc != 0)
		return rc;
	if (c->json)
		return cli_print_json(c, o);
	print_one(o);
	json_decref(o);
	return 0;
}

int cli_vm_run(struct cli *c)
{
	return command(c, "run");
}

int cli_vm_pause(struct cli *c)
{
	return command(c, "pause");
}

int cli_vm_resume(struct cli *c)
{
	return command(c, "resume");
}

int cli_vm_stop(struct cli *c)
{
	return command(c, "stop");
}

int cli_vm_reset(struct cli *c)
{
	return command(c, "reset");
}

int cli_vm_power_button(struct cli *c)
{
	return command(c, "power-button");
}

/* ---- the machine's own socket ---- */

static int open_machine(struct cli *c, struct vm_ctl **out)
{
	json_t *o = NULL;
	const char *socket;
	int rc = vm_get(c, "", &o);

	if (rc != 0)
		return rc;
	socket = json_string_value(json_object_get(o, "socket"));
	if (socket == NULL)
		rc = lb_err_set(&c->err, LB_ENOTFOUND, 0, "machine %.64s does not run", c->arg[0]);
	else
		rc = vm_ctl_open(out, socket, TIMEOUT_NS, &c->err);
	if (rc == LB_EDENIED)
		(void)snprintf(c->hint, sizeof(c->hint),
			       "only root and the agent's own user speak with a machine directly");
	json_decref(o);
	return rc;
}

/* ---- console ---- */

struct console {
	struct cli *c;
	struct vm_ctl *ctl;
	struct termios saved;
	bool raw;
	bool ended; /* by ^], or the end of standard input */
};

/* Every key goes to the guest, ^C too: only ^] is ours. */
static void make_raw(struct console *k)
{
	struct termios t;

	k->raw = isatty(0) != 0 && tcgetattr(0, &k->saved) == 0;
	if (!k->raw)
		return;
	t = k->saved;
	cfmakeraw(&t);
	(void)tcsetattr(0, TCSANOW, &t);
}

static void write_out(const uint8_t *p, size_t len)
{
	(void)fwrite(p, 1, len, stdout);
	(void)fflush(stdout);
}

/* Output that is there. */
static int from_guest(struct console *k, uint64_t wait_ns)
{
	struct vm_ctl_msg m;
	int rc = vm_ctl_next(k->ctl, wait_ns, &m, &k->c->err);

	if (rc == LB_ETIMEDOUT)
		return 0;
	if (rc != 0 || m.type != VM_CTL_SERIAL_OUT)
		return rc;
	if (m.n > 0)
		(void)fprintf(stderr, "\r\n[%" PRIu64 " bytes of output were lost]\r\n", m.n);
	write_out(m.bytes, m.len);
	return 0;
}

static int to_guest(struct console *k)
{
	uint8_t keys[512];
	ssize_t n = read(0, keys, sizeof(keys)); /* banned-ok: a terminal */
	struct vm_ctl_msg m = {.type = VM_CTL_SERIAL_IN, .bytes = keys};
	const uint8_t *escape;

	if (n <= 0) {
		k->ended = n == 0 || errno != EINTR;
		return 0;
	}
	escape = k->raw ? memchr(keys, ESCAPE, (size_t)n) : NULL;
	m.len = escape != NULL ? (uint32_t)(escape - keys) : (uint32_t)n;
	k->ended = escape != NULL;
	return m.len > 0 ? vm_ctl_post(k->ctl, &m, &k->c->err) : 0;
}

static int converse(struct console *k)
{
	struct pollfd p[2] = {{.fd = vm_ctl_fd(k->ctl), .events = POLLIN},
			      {.fd = 0, .events = POLLIN}};
	int rc = 0;

	while (rc == 0 && !k->ended) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return lb_err_errno(&k->c->err, errno, "wait for the console");
		if (p[0].revents != 0)
			rc = from_guest(k, 0);
		if (rc == 0 && p[1].revents != 0)
			rc = to_guest(k);
	}
	return rc;
}

/* --once: what is kept of its output, then end; a guest that never stops talking does not keep us.
 */
static int replay(struct console *k)
{
	size_t left = VM_CTL_REPLAY_BYTES;
	struct vm_ctl_msg m;
	int rc = 0;

	while (rc == 0 && left > 0) {
		rc = vm_ctl_next(k->ctl, UINT64_C(100000000), &m, &k->c->err);
		if (rc != 0 || m.type != VM_CTL_SERIAL_OUT)
			continue;
		m.len = m.len < left ? m.len : (uint32_t)left;
		left -= m.len;
		write_out(m.bytes, m.len);
	}
	return rc == LB_ETIMEDOUT ? 0 : rc;
}

int cli_vm_console(struct cli *c)
{
	const struct vm_ctl_msg attach = {.type = VM_CTL_SERIAL_ATTACH, .n = VM_CTL_REPLAY_BYTES};
	struct console k = {.c = c};
	struct vm_ctl_msg answer;
	int rc = c->json ? lb_err_set(&c->err, LB_EINPUT, 0,
				      "a console is a stream of bytes, not JSON")
			 : open_machine(c, &k.ctl);

	if (rc == 0)
		rc = vm_ctl_call(k.ctl, &attach, VM_CTL_OK, &answer, NULL, &c->err);
	if (rc == 0 && c->once) {
		rc = replay(&k);
	} else if (rc == 0) {
		if (isatty(0) != 0)
			(void)fprintf(stderr, "console of %s; ^] leaves it\n", c->arg[0]);
		make_raw(&k);
		rc = converse(&k);
		if (k.raw)
			(void)tcsetattr(0, TCSANOW, &k.saved);
		if (isatty(0) != 0)
			(void)fputc('\n', stderr);
	}
	if (rc == LB_ECLOSED)
		(void)lb_err_set(&c->err, LB_ECLOSED, 0, "machine %.64s went off", c->arg[0]);
	vm_ctl_close(k.ctl);
	return rc;
}

/* ---- screenshot ---- */

static int shoot_text(struct cli *c, struct vm_ctl *ctl)
{
	const struct vm_ctl_msg rq = {.type = VM_CTL_SCREEN_TEXT};
	struct vm_ctl_msg answer;
	int rc = vm_ctl_call(ctl, &rq, VM_CTL_TEXT, &answer, NULL, &c->err);
	char line[1024], safe[4096];
	size_t at = 0;

	if (rc == 0 && c->json)
		return cli_print_json(c, json_pack("{s:s, s:s%}", "vm", c->arg[0], "text",
						   answer.bytes, (size_t)answer.len));
	while (rc == 0 && at < answer.len) { /* a guest's bytes: escaped, line by line */
		const uint8_t *nl = memchr(answer.bytes + at, '\n', answer.len - at);
		size_t n = (nl != NULL ? (size_t)(nl - answer.bytes) : answer.len) - at;

		(void)snprintf(line, sizeof(line), "%.*s", (int)(n < 1000 ? n : 1000),
			       (const char *)answer.bytes + at);
		(void)puts(lb_text_escape(safe, sizeof(safe), line));
		at += n + 1;
	}
	return rc;
}

static int write_png(struct cli *c, const char *path, const struct vm_ctl_msg *m,
		     const uint8_t *pixels)
{
	png_color colours[16];
	png_image image = {.version = PNG_IMAGE_VERSION,
			   .width = m->width,
			   .height = m->height,
			   .format = PNG_FORMAT_RGB_COLORMAP,
			   .colormap_entries = 16};

	for (int i = 0; i < 16; i++)
		colours[i] = (png_color){m->palette[i][0], m->palette[i][1], m->palette[i][2]};
	if (png_image_write_to_file(&image, path, 0, pixels, (png_int_32)m->width, colours) == 0)
		return lb_err_set(&c->err, LB_EIO, errno, "write %s: %.100s", path, image.message);
	return 0;
}

static int shoot_png(struct cli *c, struct vm_ctl *ctl)
{
	const struct vm_ctl_msg rq = {.type = VM_CTL_SCREEN_PIXELS};
	struct vm_ctl_msg answer;
	int fds[3] = {-1, -1, -1};
	uint8_t *pixels = NULL;
	size_t len = 0;
	int rc = vm_ctl_call(ctl, &rq, VM_CTL_PIXELS, &answer, fds, &c->err);

	if (rc == 0) {
		len = (size_t)answer.width * answer.height;
		pixels = malloc(len);
		if (pixels == NULL)
			rc = lb_err_set(&c->err, LB_ENOMEM, 0, "picture of %zu bytes", len);
		else if (pread(fds[0], pixels, len, 0) != (ssize_t)len)
			rc = lb_err_set(&c->err, LB_EPROTO, 0,
					"the machine's picture is shorter than it says");
	}
	for (size_t i = 0; rc == 0 && i < len; i++)
		pixels[i] &= 15;
	if (rc == 0)
		rc = write_png(c, c->png, &answer, pixels);
	free(pixels);
	if (fds[0] >= 0)
		(void)close(fds[0]);
	return rc;
}

int cli_vm_screenshot(struct cli *c)
{
	struct vm_ctl *ctl = NULL;
	int rc = open_machine(c, &ctl);

	if (rc == 0)
		rc = c->png != NULL ? shoot_png(c, ctl) : shoot_text(c, ctl);
	if (rc == 0 && c->png != NULL && c->json)
		(void)cli_print_json(c, json_pack("{s:s, s:s}", "vm", c->arg[0], "png", c->png));
	vm_ctl_close(ctl);
	return rc;
}
