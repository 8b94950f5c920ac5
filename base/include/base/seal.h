/*
 * base/seal.h - sealing (XAES-256-GCM), signing (Ed25519) and key wrapping (AES-256-WRAP-PAD).
 *
 * XAES-256-GCM: C2SP specification "XAES-256-GCM" v1.0: 256-bit key, 192-bit random nonce; the
 * derived AES-256-GCM key comes from one CMAC-style KDF (two AES blocks, SP 800-108r1), the low 96
 * bits of the nonce feed GCM. Random nonces are safe for 2^80 messages a key: several writers may
 * share a key. Ed25519: RFC 8032. Every signature is over  "lifeboat " || purpose || 0x00 ||
 * message. Key wrap: RFC 5649. Keys live in struct lb_key, which is wiped on fini, and are never
 * logged.
 */
#ifndef BASE_SEAL_H
#define BASE_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_err;
struct lb_env;

#define LB_KEY_BYTES        32u
#define LB_SEAL_NONCE_BYTES 24u
#define LB_SEAL_TAG_BYTES   16u
#define LB_SIG_BYTES        64u
#define LB_PUBKEY_BYTES     32u
#define LB_WRAP_BYTES       40u /* a wrapped 32-byte key */

struct lb_key {
	uint8_t b[LB_KEY_BYTES];
};
void lb_key_random(struct lb_key *k, struct lb_env *env);
void lb_key_wipe(struct lb_key *k);
/* First 16 bytes of HMAC-SHA-256(key, "lifeboat key id"): names a key without telling it. */
void lb_key_id(struct lb_id *out, const struct lb_key *k);

/* A sealer is one key with its cipher contexts made once. Not thread-safe: one per worker. */
struct lb_sealer;
int lb_sealer_create(struct lb_sealer **out, const struct lb_key *k, struct lb_err *err);
void lb_sealer_destroy(struct lb_sealer *s); /* wipes; NULL is allowed */

/* Encrypt @len bytes of @plain to @out (@len bytes; may be the same buffer) and write the tag. The
 * caller supplies a fresh random nonce. Errors: LB_ENOMEM (library). */
int lb_seal(struct lb_sealer *s, uint8_t *out, uint8_t tag[LB_SEAL_TAG_BYTES],
	    const uint8_t nonce[LB_SEAL_NONCE_BYTES], const void *aad, size_t aad_len,
	    const void *plain, size_t len, struct lb_err *err);
/* The inverse. LB_ECORRUPT when the tag does not fit; @out is zeroed then. */
int lb_unseal(struct lb_sealer *s, uint8_t *out, const uint8_t tag[LB_SEAL_TAG_BYTES],
	      const uint8_t nonce[LB_SEAL_NONCE_BYTES], const void *aad, size_t aad_len,
	      const void *cipher, size_t len, struct lb_err *err);

struct lb_pubkey {
	uint8_t b[LB_PUBKEY_BYTES];
};
struct lb_sig {
	uint8_t b[LB_SIG_BYTES];
};

/* A signing key; the private half never leaves the object except through lb_signer_export(). */
struct lb_signer;
int lb_signer_generate(struct lb_signer **out, struct lb_env *env, struct lb_err *err);
int lb_signer_from_seed(struct lb_signer **out, const uint8_t seed[32], struct lb_err *err);
void lb_signer_export(const struct lb_signer *s, uint8_t seed[32]);
void lb_signer_pubkey(const struct lb_signer *s, struct lb_pubkey *out);
int lb_sign(const struct lb_signer *s, struct lb_sig *out, const char *purpose, const void *msg,
	    size_t len, struct lb_err *err);
void lb_signer_destroy(struct lb_signer *s);

/* LB_ECORRUPT when the signature is not @key's over (@purpose, @msg). */
int lb_sig_verify(const struct lb_pubkey *key, const struct lb_sig *sig, const char *purpose,
		  const void *msg, size_t len, struct lb_err *err);

int lb_key_wrap(uint8_t out[LB_WRAP_BYTES], const struct lb_key *kek, const struct lb_key *key,
		struct lb_err *err);
/* LB_ECORRUPT when @kek does not open @in. */
int lb_key_unwrap(struct lb_key *out, const struct lb_key *kek, const uint8_t in[LB_WRAP_BYTES],
		  struct lb_err *err);

#endif
