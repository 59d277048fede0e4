/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AES-GCM of whole messages with one key, through libcrypto's EVP interface.
 *
 * The key is scheduled once.  A message costs one IV, the data and the tag: what a channel that
 * keeps its key pays for each message.
 */
#ifndef CVB_CRYPTO_GCM_H
#define CVB_CRYPTO_GCM_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

#define CVB_GCM_IV_BYTES    12
#define CVB_GCM_TAG_BYTES   16
#define CVB_GCM_MAX_KEY	    32
#define CVB_GCM_MAX_MESSAGE (UINT64_C(1) << 30) /* EVP counts in int */

struct cvb_gcm;

/* `bits`: 128 or 256; the key has bits / 8 bytes.  -EOPNOTSUPP where libcrypto offers no AES-GCM
 * (a restricted provider), -ENOMEM.  Caller frees. */
CVB_MUST_CHECK int cvb_gcm_new(struct cvb_gcm **ret, unsigned bits, const uint8_t *key,
			       struct cvb_err *err);
struct cvb_gcm *cvb_gcm_free(struct cvb_gcm *g); /* NULL in, NULL out */

/* Encrypt `bytes` from src to dst (may be the same), write the tag.  -EIO. */
CVB_MUST_CHECK int cvb_gcm_seal(struct cvb_gcm *g, const uint8_t iv[CVB_GCM_IV_BYTES],
				const uint8_t *src, uint8_t *dst, size_t bytes,
				uint8_t tag[CVB_GCM_TAG_BYTES]);

/* Decrypt and compare the tag.  -EBADMSG when it differs: dst then holds data that nobody may use;
 * -EIO. */
CVB_MUST_CHECK int cvb_gcm_open(struct cvb_gcm *g, const uint8_t iv[CVB_GCM_IV_BYTES],
				const uint8_t *src, uint8_t *dst, size_t bytes,
				const uint8_t tag[CVB_GCM_TAG_BYTES]);

/* Both key lengths, both directions, against the published vectors.  -EIO says which differs. */
CVB_MUST_CHECK int cvb_gcm_self_test(struct cvb_err *err);

#endif
