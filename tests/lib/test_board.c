#include "test_board.h"

#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"

static void on_line(void *arg, unsigned irq, bool level)
{
	struct test_board *t = arg;

	t->raised[irq] += level && !t->line[irq];
	t->line[irq] = level;
}

static void on_msi(void *arg, uint64_t addr, uint32_t data)
{
	struct test_board *t = arg;

	t->msis++;
	t->msi_addr = addr;
	t->msi_data = data;
}

static void on_event(void *arg, const struct vm_event *e)
{
	struct test_board *t = arg;

	t->events[e->type]++;
	if (e->type != VM_EVENT_SERIAL || e->len >= sizeof(t->serial) - t->serial_len)
		return;
	memcpy(t->serial + t->serial_len, e->bytes, e->len);
	t->serial_len += e->len;
	t->serial[t->serial_len] = '\0';
}

void test_board_init(struct test_board *t, uint64_t ram_bytes)
{
	static const struct vm_board_ops ops = {
		.irq_line = on_line,
		.msi = on_msi,
		.event = on_event,
	};
	struct lb_err err = {0};

	*t = (struct test_board){0};
	if (vm_mem_init(&t->mem, ram_bytes, &err) != 0)
		fail_msg("%s", err.msg);
	vm_board_init(&t->board, lb_env_real(), &t->mem, &ops, t);
}

void test_board_fini(struct test_board *t)
{
	vm_board_fini(&t->board);
	vm_mem_fini(&t->mem);
}
