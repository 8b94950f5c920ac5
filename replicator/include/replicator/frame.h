/*
 * replicator/frame.h - the wire: framed messages inside TLS 1.3. Encode and decode only, no I/O, no
 * state.
 *
 *   offset size
 *        0    4  magic "LBF1"
 *        4    2  type (enum rep_frame_type; frozen, never reused)
 *        6    2  flags, 0
 *        8    4  payload length, <= REP_FRAME_MAX
 *       12    4  CRC32C of bytes 0..11 (TLS protects content; this catches a desynchronised stream
 * early) 16    n  payload
 *
 * No paths on the wire: only ids, hashes, numbers and names of [A-Za-z0-9._-]{1,64}.
 * docs/protocol.md is the authority.
 */
#ifndef REPLICATOR_FRAME_H
#define REPLICATOR_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/id.h"
#include "base/seal.h"
#include "replicator/layer.h"
#include "replicator/manifest.h"
#include "replicator/record.h"

struct lb_err;
struct lb_buf;

#define REP_FRAME_HEADER_BYTES    16u
#define REP_FRAME_MAX             (REP_RECORD_MAX + 4096u)
#define REP_PROTOCOL_VERSION      1u
#define REP_OFFER_MAX_LAYERS      REP_MANIFEST_MAX_VOLUMES
#define REP_HELLO_MAX_CONNECTIONS 64u
#define REP_ADMIT_MAX_EXTRA       512u

enum rep_frame_type {
	REP_FRAME_HELLO = 1, /* both ways, first frame on every connection */
	REP_FRAME_ERROR = 2, /* then the sender closes */
	REP_FRAME_PING = 3,  /* either way; answered by PONG */
	REP_FRAME_PONG = 4,
	REP_FRAME_STATUS_REQ = 10, /* source -> target: what do you hold of this group? */
	REP_FRAME_STATUS = 11,
	REP_FRAME_OFFER = 20,   /* source -> target: a point begins */
	REP_FRAME_ADMIT = 21,   /* target -> source: go on from here */
	REP_FRAME_REFUSE = 22,  /* target -> source: not this point (also after POINT) */
	REP_FRAME_RECORD = 30,  /* source -> target: one part of a layer */
	REP_FRAME_CREDIT = 31,  /* target -> source: record bytes taken so far on this connection */
	REP_FRAME_POINT = 40,   /* source -> target: the manifest; all parts are sent */
	REP_FRAME_RECEIPT = 41, /* target -> source: durable and verified */
	REP_FRAME_FENCE = 50,   /* either way: a higher epoch of this group exists */
	REP_FRAME_KEY = 60,     /* source -> target: a machine's data key (custody hot) */
	REP_FRAME_KEY_OK = 61,
};

enum rep_refuse_reason {
	REP_REFUSE_BASE = 1,    /* base is not the head: see head */
	REP_REFUSE_EPOCH = 2,   /* a higher epoch exists: see epoch */
	REP_REFUSE_SPACE = 3,   /* no room; try again later */
	REP_REFUSE_CORRUPT = 4, /* a part or the manifest failed its check; text names it */
	REP_REFUSE_SUSPECT = 5, /* the store stopped acknowledging */
	REP_REFUSE_BUSY = 6,    /* e.g. another session of this group is newer */
	REP_REFUSE_DENIED = 7,  /* this peer may not write this group */
};

struct rep_hello {
	uint16_t version_min, version_max;
	struct lb_id deployment, site, boot_id,
		session;                  /* session: random, same on all connections of one */
	uint16_t connection, connections; /* this one's number and how many there are */
};
struct rep_ping { /* PING and PONG; PONG copies sent_ns and adds the answerer's clock and boot id */
	uint64_t sent_ns;
	uint64_t peer_now_ns; /* 0 in PING */
	struct lb_id peer_boot_id;
};
struct rep_status {
	struct lb_id group;
	uint64_t epoch; /* highest known for the group, 0 = never heard of */
	bool has_head;
	uint64_t head_epoch, head_seq;
	struct lb_hash head; /* newest visible manifest in the lineage */
	bool writable;       /* would an OFFER of this peer be admitted at `epoch`? */
};
struct rep_offer_layer {
	struct lb_id machine, volume, layer;
	enum rep_volume_kind kind;
	uint64_t volume_bytes;
};
struct rep_offer {
	struct lb_id group;
	char group_name[REP_NAME_MAX + 1];
	uint64_t epoch, seq;
	struct lb_hash base, prev;
	uint32_t layers;
	struct rep_offer_layer layer[REP_OFFER_MAX_LAYERS];
};
struct rep_admit {
	struct lb_id group;
	uint64_t epoch, seq;
	uint32_t layers;
	struct {
		struct lb_id layer;
		bool header;            /* header part is held */
		uint32_t first_missing; /* packs 0..first_missing-1 are held: do not send them again
					 */
	} layer[REP_OFFER_MAX_LAYERS];
	uint32_t extras; /* packs held beyond first_missing (connections run ahead of each other) */
	struct {
		uint16_t layer; /* position in layer[] */
		uint32_t number;
	} extra[REP_ADMIT_MAX_EXTRA];
};
struct rep_refuse {
	struct lb_id group;
	uint64_t seq; /* of the point refused */
	enum rep_refuse_reason reason;
	uint64_t epoch; /* highest known */
	bool has_head;
	struct lb_hash head;
	char text[161];
};
struct rep_record_frame {
	enum rep_record_kind kind;
	struct lb_id group, layer;
	uint32_t number;
	const uint8_t *body; /* borrowed */
	uint32_t bytes;
};
struct rep_point_frame {
	uint64_t age_ns; /* capture to this frame's sending, by the source's clock */
	const uint8_t *manifest;
	uint32_t bytes;
};
struct rep_fence {
	struct lb_id group;
	uint64_t epoch;
};
struct rep_key_frame {
	struct lb_id group, machine, key_id;
	struct lb_key key; /* wiped by the holder after use */
};
struct rep_error_frame {
	int32_t code; /* enum lb_code */
	char text[161];
};

struct rep_frame {
	enum rep_frame_type type;
	union {
		struct rep_hello hello;
		struct rep_error_frame error;
		struct rep_ping ping;
		struct lb_id status_req;
		struct rep_status status;
		struct rep_offer offer;
		struct rep_admit admit;
		struct rep_refuse refuse;
		struct rep_record_frame record;
		uint64_t credit;
		struct rep_point_frame point;
		struct {
			const uint8_t *bytes;
			uint32_t len;
		} receipt;
		struct rep_fence fence;
		struct rep_key_frame key;
		struct lb_id key_ok; /* key id */
	};
};

/* Header only: how many payload bytes follow. Errors: LB_EPROTO. */
int rep_frame_header_decode(enum rep_frame_type *type, uint32_t *payload_bytes,
			    const uint8_t p[REP_FRAME_HEADER_BYTES], struct lb_err *err);
/* One payload of @len bytes. Borrowed pointers point into @p. Errors: LB_EPROTO. */
int rep_frame_decode(struct rep_frame *out, enum rep_frame_type type, const void *p, size_t len,
		     struct lb_err *err);
/* The whole frame, header included, into a new buffer. What rep_frame_decode() would refuse is
 * LB_EINVAL, but text for people (ERROR, REFUSE) is made to fit: cut to 160 bytes, and what is not
 * printable ASCII becomes '?'. Errors: LB_EINVAL, LB_ENOMEM. */
int rep_frame_encode(struct lb_buf **out, const struct rep_frame *f, struct lb_err *err);
/* Header and prefix of a RECORD frame whose body of @r->bytes follows from elsewhere (@r->body is
 * not read): see rep_link_send2(). Errors: LB_EINVAL, LB_ENOMEM. */
int rep_frame_encode_record_head(struct lb_buf **out, const struct rep_record_frame *r,
				 struct lb_err *err);
/* "HELLO"; "unknown" for a number that is no type. For messages and logs. */
const char *rep_frame_name(enum rep_frame_type type);

#endif
