/* SPDX-License-Identifier: Apache-2.0 */
/* What crypto.aes_gcm keeps for each worker; apart so that a test can spoil it. */
#ifndef CVB_CRYPTO_AES_GCM_H
#define CVB_CRYPTO_AES_GCM_H

#include "crypto/gcm.h"
#include "measure/memory.h"

#include <stdbool.h>

/* Small messages are opened one after the other from a ring of this many and this many bytes. */
#define CVB_GCM_RING	   16
#define CVB_GCM_RING_BYTES (16 * 1024)

enum cvb_gcm_dir {
	CVB_GCM_ENCRYPT,
	CVB_GCM_DECRYPT,
	CVB_GCM_DIRS,
};

struct cvb_gcm_message {
	uint8_t iv[CVB_GCM_IV_BYTES], tag[CVB_GCM_TAG_BYTES];
};

struct cvb_gcm_worker {
	struct cvb_gcm *gcm[2];		   /* 128 and 256 bits; each worker has keys of its own */
	struct cvb_mem plain, sealed, out; /* encrypt: plain to out; decrypt: sealed to out */
	uint64_t sent; /* messages sealed; part of the IV, so that none repeats */
	struct cvb_gcm_message message[CVB_GCM_RING]; /* decrypt: of the ring; encrypt: [0], last */
	uint64_t opened;
	const struct cvb_gcm_case *unchecked; /* the last batch's case; NULL: nothing to check */
	bool bad;			      /* something was not what it should be */
};

struct cvb_gcm_case {
	unsigned bits;
	enum cvb_gcm_dir dir;
	uint64_t size_bytes;
	unsigned threads;
	unsigned ring; /* messages that decrypt takes in turn */
};

#endif
