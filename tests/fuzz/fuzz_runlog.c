/*
 * Any bytes as a run log: refused as damaged, or a state from which the run goes on. To reach past
 * the checksums, the first byte of an input says whether they are made right before the scan.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/rd.h"
#include "run_int.h"
#include "runlog_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Give each record that looks whole the links and checksums it needs. */
static void mend(uint8_t *p, size_t len)
{
	struct lb_hash prev = {0};
	size_t off = 0;

	while (len - off >= RB_LOG_HEADER_BYTES) {
		struct rb_log_header h = {0};
		struct lb_rd rd = lb_rd_init(p + off + 4, RB_LOG_HEADER_BYTES - 4);

		h.version = lb_rd_u16le(&rd);
		h.type = lb_rd_u16le(&rd);
		h.payload_bytes = lb_rd_u32le(&rd);
		h.generation = lb_rd_u32le(&rd);
		h.seq = lb_rd_u64le(&rd);
		h.batch_first = lb_rd_u64le(&rd);
		h.t_ns = lb_rd_u64le(&rd);
		h.wall_ns = lb_rd_u64le(&rd);
		if (h.payload_bytes > len - off - RB_LOG_HEADER_BYTES)
			return;
		h.prev = prev;
		h.payload_crc = lb_crc32c(0, p + off + RB_LOG_HEADER_BYTES, h.payload_bytes);
		rb_log_put_header(p + off, &h);
		lb_sha256(&prev, p + off, RB_LOG_HEADER_BYTES + h.payload_bytes);
		off += RB_LOG_HEADER_BYTES + h.payload_bytes;
	}
}

static void go_on(struct rb_engine *e, uint64_t now_ns)
{
	struct rb_event ev = {.kind = RB_EV_RESUME, .generation = rb_engine_generation(e) + 1};
	struct rb_todos todos;

	if (rb_run_state_ended(rb_engine_state(e)) || ev.generation == 0)
		return;
	for (int i = 0; i < 4; i++) {
		if (rb_engine_step(e, &ev, now_ns, &todos, NULL) != 0)
			abort();
		ev = (struct rb_event){.kind = RB_EV_TICK};
		now_ns = rb_engine_deadline_ns(e) != UINT64_MAX ? rb_engine_deadline_ns(e) : now_ns;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rb_replay replay = {0};
	struct rb_log_end end;
	struct lb_err err = {0};
	uint8_t *copy;
	int rc;

	if (size < 1)
		return 0;
	copy = malloc(size);
	if (copy == NULL)
		return 0;
	memcpy(copy, data + 1, size - 1);
	if (data[0] % 2 == 1)
		mend(copy, size - 1);
	rc = rb_log_scan(copy, size - 1, rb_replay_record, &replay, &end, &err);
	if (rc != 0 && rc != LB_ECORRUPT && rc != LB_ENOMEM)
		abort();
	if (rc == 0 && end.valid_bytes > size - 1)
		abort();
	if (rc == 0 && replay.engine != NULL)
		go_on(replay.engine, end.t_ns);
	rb_replay_fini(&replay);
	free(copy);
	return 0;
}
