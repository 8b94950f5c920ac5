#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "hub.h"

static int kick = -1;

static struct vm_hub *make(void)
{
	struct vm_hub *h = NULL;

	kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(kick >= 0);
	assert_int_equal(vm_hub_create(&h, kick, NULL), 0);
	return h;
}

static void drop(struct vm_hub *h)
{
	vm_hub_destroy(h);
	(void)close(kick);
}

static void serial(struct vm_hub *h, const void *p, size_t len)
{
	struct vm_event e = {.type = VM_EVENT_SERIAL, .bytes = p, .len = (uint32_t)len};

	vm_hub_on_event(h, &e);
}

static void test_output_is_read_in_order(void **state)
{
	struct vm_hub *h = make();
	uint64_t at = 0, lost = 9, count = 0;
	char buf[16];

	(void)state;
	serial(h, "hello ", 6);
	serial(h, "world", 5);
	assert_int_equal(read(kick, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 2);
	assert_int_equal(vm_hub_read(h, VM_HUB_SERIAL, &at, buf, 8, &lost), 8);
	assert_memory_equal(buf, "hello wo", 8);
	assert_int_equal(vm_hub_read(h, VM_HUB_SERIAL, &at, buf, sizeof(buf), &lost), 3);
	assert_int_equal(lost, 0);
	assert_int_equal(vm_hub_read(h, VM_HUB_SERIAL, &at, buf, sizeof(buf), &lost), 0);
	drop(h);
}

static void test_the_oldest_output_gives_way(void **state)
{
	static uint8_t block[40000], got[VM_CTL_REPLAY_BYTES + 1];
	struct vm_hub *h = make();
	uint64_t at = 0, lost = 0;

	(void)state;
	memset(block, 'a', sizeof(block));
	serial(h, block, sizeof(block));
	memset(block, 'b', sizeof(block));
	serial(h, block, sizeof(block));
	assert_int_equal(vm_hub_end(h, VM_HUB_SERIAL), 80000);
	assert_int_equal(vm_hub_read(h, VM_HUB_SERIAL, &at, got, sizeof(got), &lost),
			 VM_CTL_REPLAY_BYTES);
	assert_int_equal(lost, 80000 - VM_CTL_REPLAY_BYTES);
	assert_int_equal(got[0], 'a');
	assert_int_equal(got[VM_CTL_REPLAY_BYTES - 40000 - 1], 'a');
	assert_int_equal(got[VM_CTL_REPLAY_BYTES - 40000], 'b');
	assert_int_equal(at, 80000);
	drop(h);
}

static void test_one_piece_larger_than_all(void **state)
{
	static uint8_t block[VM_CTL_REPLAY_BYTES + 100], got[VM_CTL_REPLAY_BYTES];
	struct vm_hub *h = make();
	uint64_t at = 0, lost = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)i;
	serial(h, block, sizeof(block));
	assert_int_equal(vm_hub_read(h, VM_HUB_SERIAL, &at, got, sizeof(got), &lost), sizeof(got));
	assert_int_equal(lost, 100);
	assert_memory_equal(got, block + 100, sizeof(got));
	drop(h);
}

static void test_events(void **state)
{
	struct vm_hub *h = make();
	struct vm_event e = {.type = VM_EVENT_FAULT, .rip = 0x1000, .text = "bad \x1b[2J"};
	struct vm_ctl_event got;
	uint64_t at = 0;

	(void)state;
	vm_hub_on_event(h, &e);
	assert_true(vm_hub_event(h, &at, &got));
	assert_int_equal(got.type, VM_EVENT_FAULT);
	assert_int_equal(got.rip, 0x1000);
	assert_null(strchr(got.text, 0x1b));
	assert_false(vm_hub_event(h, &at, &got));
	e.type = VM_EVENT_RESET;
	for (int i = 0; i < VM_HUB_EVENTS + 10; i++) {
		e.code = i;
		vm_hub_on_event(h, &e);
	}
	assert_true(vm_hub_event(h, &at, &got)); /* the oldest that is kept */
	assert_int_equal(got.code, 10);
	e.type = VM_EVENT_DEBUG;
	e.bytes = (const uint8_t *)"x";
	e.len = 1;
	vm_hub_on_event(h, &e);
	assert_int_equal(vm_hub_end(h, VM_HUB_SERIAL), 0);
	drop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_is_read_in_order),
		cmocka_unit_test(test_the_oldest_output_gives_way),
		cmocka_unit_test(test_one_piece_larger_than_all),
		cmocka_unit_test(test_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
