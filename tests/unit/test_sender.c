/* The sender core: events in, actions out. No shell, no time but what the test says. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/sender.h"

#define S UINT64_C(1000000000)

struct bench {
	struct fix_env env;
	struct lb_signer *peer; /* signs receipts */
	struct rep_sender *s;
	uint64_t now;
	struct lb_id session;
	struct rep_sender_action act[64];
	struct rep_frame sent[64]; /* decoded SENDs; borrowed pointers are void */
	unsigned acts, sends;
	struct lb_hash leads_to;
};

static bool leads_to(void *arg, const struct lb_id *group, const struct lb_hash *manifest)
{
	struct bench *b = arg;

	(void)group;
	return lb_hash_equal(&b->leads_to, manifest);
}

static void drain(struct bench *b)
{
	struct rep_sender_action a;

	b->acts = b->sends = 0;
	while (rep_sender_next(b->s, &a)) {
		enum rep_frame_type type;
		uint32_t bytes;

		assert_true(b->acts < 64);
		if (a.type == REP_SENDER_SEND) {
			struct rep_frame *f = &b->sent[b->sends++];

			assert_int_equal(rep_frame_header_decode(&type, &bytes, a.head->p, NULL),
					 0);
			if (a.body)
				f->type = type;
			else
				assert_int_equal(
					rep_frame_decode(f, type,
							 a.head->p + REP_FRAME_HEADER_BYTES, bytes,
							 NULL),
					0);
			if (type == REP_FRAME_HELLO)
				b->session = f->hello.session;
		}
		lb_buf_unref(a.head);
		lb_buf_unref(a.body);
		a.head = a.body = NULL;
		b->act[b->acts++] = a;
	}
}

static int step(struct bench *b, struct rep_sender_event e)
{
	int rc = rep_sender_step(b->s, &e, b->now, NULL);

	drain(b);
	return rc;
}

static void hear(struct bench *b, unsigned conn, const struct rep_frame *f)
{
	struct rep_sender_event e = {.type = REP_SENDER_FRAME, .conn = conn};
	struct lb_buf *buf;

	assert_int_equal(rep_frame_encode(&buf, f, NULL), 0);
	e.frame.type = f->type;
	e.frame.payload = buf->p + REP_FRAME_HEADER_BYTES;
	e.frame.bytes = (uint32_t)buf->len - REP_FRAME_HEADER_BYTES;
	(void)step(b, e);
	lb_buf_unref(buf);
}

static const struct rep_sender_action *find(const struct bench *b, enum rep_sender_action_type t)
{
	for (unsigned i = 0; i < b->acts; i++)
		if (b->act[i].type == t)
			return &b->act[i];
	return NULL;
}

static const struct rep_frame *find_sent(const struct bench *b, enum rep_frame_type t)
{
	for (unsigned i = 0; i < b->sends; i++)
		if (b->sent[i].type == t)
			return &b->sent[i];
	return NULL;
}

static struct bench *make(unsigned connections, uint64_t window)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct rep_sender_cfg cfg = REP_SENDER_CFG_DEFAULTS;

	assert_non_null(b);
	b->env = fix_env(7);
	b->now = S;
	assert_int_equal(lb_signer_generate(&b->peer, &b->env.env, NULL), 0);
	cfg.env = &b->env.env;
	cfg.deployment = fix_id(1);
	cfg.site = fix_id(2);
	cfg.boot_id = fix_id(3);
	cfg.peer_site = fix_id(4);
	lb_signer_pubkey(b->peer, &cfg.peer_key);
	cfg.connections = connections;
	cfg.window_bytes = window;
	cfg.leads_to = leads_to;
	cfg.arg = b;
	assert_int_equal(rep_sender_create(&b->s, &cfg, NULL), 0);
	return b;
}

static void done(struct bench *b)
{
	rep_sender_destroy(b->s);
	lb_signer_destroy(b->peer);
	free(b);
}

static void add_group(struct bench *b, const struct lb_hash *described)
{
	struct rep_sender_group g = {.group = fix_id(9), .epoch = 5};
	struct rep_sender_event e = {.type = REP_SENDER_GROUP_ADD, .add = &g};

	memcpy(g.name, "shop", 5);
	if (described)
		g.described = *described;
	assert_int_equal(step(b, e), 0);
}

static void answer_hello(struct bench *b, unsigned conn)
{
	struct rep_frame f = {.type = REP_FRAME_HELLO};

	f.hello = (struct rep_hello){.version_min = 1,
				     .version_max = 1,
				     .deployment = fix_id(1),
				     .site = fix_id(4),
				     .boot_id = fix_id(5),
				     .session = b->session,
				     .connection = (uint16_t)conn,
				     .connections = 2};
	hear(b, conn, &f);
}

static void bring_up(struct bench *b, unsigned conn)
{
	(void)step(b, (struct rep_sender_event){
			      .type = REP_SENDER_UP, .conn = conn, .peer = fix_id(4)});
	assert_non_null(find_sent(b, REP_FRAME_HELLO));
	answer_hello(b, conn);
}

static void tell_status(struct bench *b, uint64_t epoch, const struct lb_hash *head)
{
	struct rep_frame f = {.type = REP_FRAME_STATUS};

	f.status = (struct rep_status){.group = fix_id(9), .epoch = epoch, .writable = true};
	if (head) {
		f.status.has_head = true;
		f.status.head = *head;
		f.status.head_epoch = epoch;
		f.status.head_seq = 41;
	}
	hear(b, 0, &f);
}

/* Each row: what the digests describe, what redo logs lead to, the peer's head -> what comes out.
 */
static void test_status(void **state)
{
	static const struct {
		unsigned described, leads, head;
		uint64_t epoch;
		bool acked, resync, fenced;
		unsigned base; /* of READY; 0: full */
	} row[] = {
		{0, 0, 0, 0, false, false, false, 0}, /* first seed */
		{7, 0, 7, 5, false, false, false, 7}, /* as it should be */
		{7, 8, 8, 5, true, false, false, 8},  /* its receipt was lost */
		{7, 0, 8, 5, false, true, false, 0},  /* somebody else's */
		{7, 0, 0, 5, false, true, false, 0},  /* the peer lost everything */
		{0, 0, 8, 5, false, true, false, 0},  /* we did */
		{7, 0, 7, 6, false, false, true, 0},  /* a higher epoch */
		{7, 0, 7, 4, false, false, false, 7}, /* we bring a higher one */
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct bench *b = make(1, 1000);
		struct lb_hash described = fix_hash(row[i].described);
		struct lb_hash head = fix_hash(row[i].head), base = fix_hash(row[i].base);
		const struct rep_sender_action *ready;

		b->leads_to = fix_hash(row[i].leads ? row[i].leads : 0xff);
		add_group(b, &described);
		assert_non_null(find(b, REP_SENDER_CONNECT));
		bring_up(b, 0);
		assert_non_null(find(b, REP_SENDER_LINK_UP));
		assert_non_null(find_sent(b, REP_FRAME_STATUS_REQ));
		tell_status(b, row[i].epoch, row[i].head ? &head : NULL);
		assert_int_equal(find(b, REP_SENDER_ACKED) != NULL, row[i].acked);
		assert_int_equal(find(b, REP_SENDER_RESYNC) != NULL, row[i].resync);
		assert_int_equal(find(b, REP_SENDER_FENCED) != NULL, row[i].fenced);
		ready = find(b, REP_SENDER_READY);
		assert_int_equal(ready == NULL, row[i].fenced);
		if (ready) {
			assert_true(lb_hash_equal(&ready->place.base, &base));
			assert_true(lb_hash_equal(&ready->place.prev, &head));
			assert_int_equal(ready->place.seq, row[i].head ? 42 : 1);
			assert_int_equal(ready->place.epoch, 5);
		}
		done(b);
	}
}

/* ---- one cut ---- */

static struct rep_sender_place offer_cut(struct bench *b)
{
	struct rep_offer_layer l = {.machine = fix_id(20),
				    .volume = fix_id(21),
				    .layer = fix_id(22),
				    .kind = REP_VOLUME_DISK,
				    .volume_bytes = 40960};
	struct rep_sender_event e = {.type = REP_SENDER_CUT, .group = fix_id(9)};

	assert_non_null(find(b, REP_SENDER_READY));
	e.cut.place = find(b, REP_SENDER_READY)->place;
	e.cut.layer = &l;
	e.cut.layers = 1;
	assert_int_equal(step(b, e), 0);
	assert_non_null(find_sent(b, REP_FRAME_OFFER));
	return e.cut.place;
}

static void admit(struct bench *b, uint64_t seq, bool header, uint32_t first_missing)
{
	struct rep_frame f = {.type = REP_FRAME_ADMIT};

	f.admit.group = fix_id(9);
	f.admit.epoch = 5;
	f.admit.seq = seq;
	f.admit.layers = 1;
	f.admit.layer[0].layer = fix_id(22);
	f.admit.layer[0].header = header;
	f.admit.layer[0].first_missing = first_missing;
	hear(b, 0, &f);
}

static int give(struct bench *b, enum rep_record_kind kind, uint32_t number, uint32_t bytes)
{
	static const uint8_t body[4096];
	struct rep_frame f = {.type = REP_FRAME_RECORD};
	struct rep_sender_event e = {.type = REP_SENDER_PART};
	int rc;

	f.record = (struct rep_record_frame){.kind = kind,
					     .group = fix_id(9),
					     .layer = fix_id(22),
					     .number = number,
					     .body = body,
					     .bytes = bytes};
	assert_int_equal(rep_frame_encode(&e.part.head, &f, NULL), 0);
	e.part.group = fix_id(9);
	e.part.layer = fix_id(22);
	e.part.kind = kind;
	e.part.number = number;
	e.part.bytes = bytes;
	rc = step(b, e);
	lb_buf_unref(e.part.head);
	return rc;
}

static void credit(struct bench *b, unsigned conn, uint64_t total)
{
	hear(b, conn, &(struct rep_frame){.type = REP_FRAME_CREDIT, .credit = total});
}

static struct lb_hash seal(struct bench *b)
{
	struct rep_sender_event e = {.type = REP_SENDER_CUT_SEALED, .group = fix_id(9)};
	struct rep_manifest *m = calloc(1, sizeof(*m));
	struct lb_hash hash;

	assert_non_null(m);
	m->deployment = fix_id(1);
	m->site = fix_id(2);
	m->group = fix_id(9);
	memcpy(m->group_name, "shop", 5);
	m->epoch = 5;
	m->seq = 1;
	m->boot_id = fix_id(3);
	m->consistency = REP_CONSISTENCY_CRASH;
	m->volumes = 1;
	m->volume[0] = (struct rep_manifest_volume){.machine = fix_id(20),
						    .volume = fix_id(21),
						    .layer = fix_id(22),
						    .key = fix_id(23),
						    .kind = REP_VOLUME_DISK,
						    .volume_bytes = 40960,
						    .layer_bytes = 300};
	memcpy(m->volume[0].machine_name, "db", 3);
	memcpy(m->volume[0].volume_name, "vda", 4);
	assert_int_equal(rep_manifest_encode(&e.sealed.manifest, m, b->peer, NULL), 0);
	rep_manifest_hash(&hash, e.sealed.manifest->p, e.sealed.manifest->len);
	e.sealed.capture_boot_ns = b->now / 2;
	assert_int_equal(step(b, e), 0);
	lb_buf_unref(e.sealed.manifest);
	free(m);
	return hash;
}

static void receipt(struct bench *b, const struct lb_hash *manifest, uint64_t seq,
		    const struct lb_signer *signer)
{
	struct rep_receipt r = {.deployment = fix_id(1),
				.site = fix_id(4),
				.group = fix_id(9),
				.epoch = 5,
				.seq = seq,
				.manifest = *manifest,
				.counter = 1,
				.receive_boot_ns = 1,
				.receive_wall_ns = 1};
	struct rep_frame f = {.type = REP_FRAME_RECEIPT};
	uint8_t bytes[REP_RECEIPT_BYTES];

	assert_int_equal(rep_receipt_encode(bytes, &r, signer, NULL), 0);
	f.receipt.bytes = bytes;
	f.receipt.len = sizeof(bytes);
	hear(b, 0, &f);
}

static struct bench *make_streaming(unsigned connections, uint64_t window)
{
	struct bench *b = make(connections, window);

	add_group(b, NULL);
	bring_up(b, 0);
	tell_status(b, 0, NULL);
	(void)offer_cut(b);
	admit(b, 1, false, 0);
	assert_non_null(find(b, REP_SENDER_SCAN));
	return b;
}

static void test_point_after_credit(void **state)
{
	struct bench *b = make_streaming(1, 1000);
	struct lb_hash hash;

	(void)state;
	assert_int_equal(give(b, REP_RECORD_LAYER_HEADER, 0, 256), 0);
	assert_non_null(find_sent(b, REP_FRAME_RECORD));
	assert_int_equal(give(b, REP_RECORD_PACK, 0, 500), 0);
	hash = seal(b);
	assert_null(find_sent(b, REP_FRAME_POINT));
	credit(b, 0, 256);
	assert_null(find_sent(b, REP_FRAME_POINT));
	credit(b, 0, 756);
	assert_non_null(find_sent(b, REP_FRAME_POINT));
	receipt(b, &hash, 1, b->peer);
	assert_non_null(find(b, REP_SENDER_ACKED));
	assert_non_null(find(b, REP_SENDER_ACKED)->receipt);
	assert_true(lb_hash_equal(&find(b, REP_SENDER_READY)->place.base, &hash));
	assert_int_equal(find(b, REP_SENDER_READY)->place.seq, 2);
	done(b);
}

static void test_wrong_receipts(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct bench *b = make_streaming(1, 1000);
		struct lb_signer *other;
		struct lb_hash hash = seal(b), wrong = fix_hash(3);

		assert_int_equal(lb_signer_generate(&other, &b->env.env, NULL), 0);
		assert_non_null(find_sent(b, REP_FRAME_POINT));
		receipt(b, i == 0 ? &wrong : &hash, i == 1 ? 2 : 1, i == 2 ? other : b->peer);
		assert_null(find(b, REP_SENDER_ACKED));
		assert_non_null(find(b, REP_SENDER_CLOSE)); /* such a peer is not listened to */
		lb_signer_destroy(other);
		done(b);
	}
}

static void test_window(void **state)
{
	struct bench *b = make_streaming(1, 1000);

	(void)state;
	assert_int_equal(rep_sender_room(b->s), 1000);
	assert_int_equal(give(b, REP_RECORD_PACK, 0, 900), 0);
	assert_int_equal(give(b, REP_RECORD_PACK, 1, 200), LB_EAGAIN);
	credit(b, 0, 900);
	assert_non_null(find(b, REP_SENDER_ROOM));
	assert_int_equal(give(b, REP_RECORD_PACK, 1, 2000), 0); /* larger than the window: alone */
	assert_int_equal(give(b, REP_RECORD_PACK, 2, 1), LB_EAGAIN);
	credit(b, 0, 5000); /* more than was sent */
	assert_non_null(find(b, REP_SENDER_CLOSE));
	done(b);
}

/* The session is lost with three packs on their way; the peer holds the first one of them. */
static void test_resume(void **state)
{
	struct bench *b = make_streaming(1, 10000);
	struct rep_sender_stats st;

	(void)state;
	assert_int_equal(give(b, REP_RECORD_LAYER_HEADER, 0, 256), 0);
	for (uint32_t n = 0; n < 4; n++)
		assert_int_equal(give(b, REP_RECORD_PACK, n, 100), 0);
	credit(b, 0, 356); /* header and pack 0 */
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_DOWN});
	assert_non_null(find(b, REP_SENDER_LINK_DOWN));
	b->now += S;
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_TICK});
	assert_non_null(find(b, REP_SENDER_CONNECT));
	bring_up(b, 0);
	tell_status(b, 0, NULL);
	assert_non_null(find_sent(b, REP_FRAME_OFFER));
	admit(b, 1, true, 2);
	assert_null(find(b, REP_SENDER_SCAN)); /* once a cut */
	assert_int_equal(b->sends, 2);
	assert_int_equal(b->sent[0].record.number, 2);
	assert_int_equal(b->sent[1].record.number, 3);
	rep_sender_stats(b->s, &st);
	assert_int_equal(st.parts_resent, 2);
	assert_int_equal(st.parts_skipped, 1);
	assert_int_equal(st.parts_resent_held, 0);
	done(b);
}

/* The peer holds packs of an attempt by an earlier process: told with SCAN, and they must stay. */
static void test_draft(void **state)
{
	(void)state;
	for (unsigned lost = 0; lost < 2; lost++) {
		struct bench *b = make(1, 10000);

		add_group(b, NULL);
		bring_up(b, 0);
		tell_status(b, 0, NULL);
		(void)offer_cut(b);
		admit(b, 1, true, 3);
		assert_non_null(find(b, REP_SENDER_SCAN));
		assert_int_equal(find(b, REP_SENDER_SCAN)->admit->layer[0].first_missing, 3);
		assert_true(find(b, REP_SENDER_SCAN)->admit->layer[0].header);
		assert_int_equal(give(b, REP_RECORD_PACK, 3, 100), 0);
		credit(b, 0, 100);
		(void)step(b, (struct rep_sender_event){.type = REP_SENDER_DOWN});
		b->now += S;
		(void)step(b, (struct rep_sender_event){.type = REP_SENDER_TICK});
		bring_up(b, 0);
		tell_status(b, 0, NULL);
		admit(b, 1, true, lost ? 3 : 4);
		assert_int_equal(find(b, REP_SENDER_ABANDONED) != NULL, lost);
		done(b);
	}
}

/* As above, but the peer's power failed: what it had credited is gone. */
static void test_peer_lost_parts(void **state)
{
	struct bench *b = make_streaming(1, 10000);

	(void)state;
	assert_int_equal(give(b, REP_RECORD_PACK, 0, 100), 0);
	credit(b, 0, 100);
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_DOWN});
	b->now += S;
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_TICK});
	bring_up(b, 0);
	tell_status(b, 0, NULL);
	admit(b, 1, false, 0);
	assert_non_null(find(b, REP_SENDER_ABANDONED));
	assert_false(find(b, REP_SENDER_ABANDONED)->alarm);
	assert_int_equal(give(b, REP_RECORD_PACK, 1, 100), LB_ENOTFOUND);
	done(b);
}

/* Each row: a refusal while parts flow -> what comes out, and when the group speaks again. */
static void test_refusals(void **state)
{
	static const struct {
		enum rep_refuse_reason reason;
		uint64_t epoch;
		enum rep_sender_action_type out;
		bool status_at_once;
	} row[] = {
		{REP_REFUSE_SPACE, 5, REP_SENDER_REFUSED, false},
		{REP_REFUSE_BUSY, 5, REP_SENDER_REFUSED, false},
		{REP_REFUSE_SUSPECT, 5, REP_SENDER_REFUSED, false},
		{REP_REFUSE_CORRUPT, 5, REP_SENDER_ABANDONED, false},
		{REP_REFUSE_DENIED, 5, REP_SENDER_STOPPED, false},
		{REP_REFUSE_EPOCH, 6, REP_SENDER_FENCED, false},
		{REP_REFUSE_BASE, 5, REP_SENDER_SEND, true},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct bench *b = make_streaming(1, 1000);
		struct rep_frame f = {.type = REP_FRAME_REFUSE};
		bool over = row[i].out == REP_SENDER_STOPPED || row[i].out == REP_SENDER_FENCED;

		f.refuse = (struct rep_refuse){.group = fix_id(9),
					       .seq = 1,
					       .reason = row[i].reason,
					       .epoch = row[i].epoch};
		hear(b, 0, &f);
		assert_non_null(find(b, row[i].out));
		assert_int_equal(find_sent(b, REP_FRAME_STATUS_REQ) != NULL, row[i].status_at_once);
		if (row[i].out == REP_SENDER_ABANDONED)
			assert_true(find(b, REP_SENDER_ABANDONED)->alarm);
		b->now += S;
		(void)step(b, (struct rep_sender_event){.type = REP_SENDER_TICK});
		assert_int_equal(find_sent(b, REP_FRAME_STATUS_REQ) != NULL,
				 !over && !row[i].status_at_once);
		done(b);
	}
}

static void test_fence_is_for_good(void **state)
{
	struct bench *b = make_streaming(1, 1000);
	struct rep_frame f = {.type = REP_FRAME_FENCE};

	(void)state;
	f.fence = (struct rep_fence){.group = fix_id(9), .epoch = 5};
	hear(b, 0, &f); /* ours: nothing new */
	assert_null(find(b, REP_SENDER_FENCED));
	f.fence.epoch = 6;
	hear(b, 0, &f);
	assert_non_null(find(b, REP_SENDER_FENCED));
	assert_int_equal(give(b, REP_RECORD_PACK, 0, 10), LB_ENOTFOUND);
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_DOWN});
	b->now += S;
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_TICK});
	bring_up(b, 0);
	assert_null(find_sent(b, REP_FRAME_STATUS_REQ));
	done(b);
}

static void test_heartbeat(void **state)
{
	struct bench *b = make(1, 1000);
	struct rep_frame f = {.type = REP_FRAME_PING};

	(void)state;
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_TICK});
	bring_up(b, 0);
	assert_non_null(find_sent(b, REP_FRAME_PING));
	f.ping.sent_ns = 77;
	b->now += S;
	hear(b, 0, &f);
	assert_int_equal(find_sent(b, REP_FRAME_PONG)->ping.sent_ns, 77);
	assert_int_equal(find_sent(b, REP_FRAME_PONG)->ping.peer_now_ns, b->now);
	b->now += 10 * S;
	(void)step(b, (struct rep_sender_event){.type = REP_SENDER_TICK});
	assert_non_null(find(b, REP_SENDER_LINK_DOWN));
	assert_int_equal(find(b, REP_SENDER_LINK_DOWN)->err.code, LB_ETIMEDOUT);
	done(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_point_after_credit),
		cmocka_unit_test(test_wrong_receipts),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_draft),
		cmocka_unit_test(test_peer_lost_parts),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_fence_is_for_good),
		cmocka_unit_test(test_heartbeat),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
