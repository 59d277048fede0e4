/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/profile.h"
#include "cli/verb.h"
#include "core/log.h"
#include "core/util.h"
#include "target/qemu_argv.h"
#include "target/qemu_probe.h"
#include "target/target.h"

#include <errno.h>
#include <string.h>

struct conf {
	struct cvb_common common;
};

static const struct cvb_opt opts[] = {
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

#define EXEC_TIMEOUT_MS (3600u * 1000)

static int load_arm(const char *profile, const char *name, struct cvb_profile **ret,
		    const struct cvb_arm **ret_arm, struct cvb_err *err)
{
	int r = cvb_profile_load(ret, profile, err), i;

	if (r < 0)
		return r;
	i = cvb_profile_arm(*ret, name);
	if (i < 0)
		return cvb_err_set(err, -EINVAL, "profile %s has no arm \"%s\"", (*ret)->name,
				   name);
	*ret_arm = &(*ret)->arms[i];
	if (strcmp((*ret_arm)->target, "qemu") != 0)
		return cvb_err_set(err, -EINVAL, "arm %s runs on target %s, not in a guest", name,
				   (*ret_arm)->target);
	return 0;
}

/* The command line as it would run, with its run-time files named in the current folder. */
static int print_argv(const struct cvb_arm *arm, struct cvb_err *err)
{
	_cleanup_free_ char *guest = cvb_guest_dir(arm);
	_cleanup_free_ char *kernel = cvb_strf("%s/vmlinuz", guest ? guest : ".");
	_cleanup_free_ char *initrd = cvb_strf("%s/initrd.img", guest ? guest : ".");
	_cleanup_free_ char *text = NULL;
	struct cvb_argv argv = {0};
	struct cvb_err why = {0};
	enum cvb_accel accel;
	struct cvb_qemu_plan plan = {.arm = arm,
				     .qemu_major = cvb_qemu_major(arm->qemu),
				     .cpus = cvb_qemu_cpus(arm),
				     .kernel = kernel,
				     .initrd = initrd,
				     .disk = "disk.raw",
				     .console = "console.log",
				     .qmp_socket = "qmp.sock",
				     .agent_socket = "agent.sock",
				     .reach_host = true};
	int r = cvb_target_supported(arm, &why);

	if (r == 0 || cvb_qemu_accel(arm, &accel, NULL) < 0)
		accel = CVB_ACCEL_KVM;
	if (r == 0)
		r = cvb_qemu_accel(arm, &accel, &why);
	/* showing the line needs no hardware: print what would run where there is some */
	if (r < 0) {
		char reason[512];

		cvb_err_text(&why, reason, sizeof(reason));
		cvb_warn("this line cannot run here: %s", reason);
	}
	plan.accel = accel;
	r = cvb_qemu_argv(&plan, &argv, err);
	if (r == 0) {
		text = cvb_argv_quoted(&argv);
		r = text ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");
	}
	if (r == 0)
		puts(text);
	cvb_argv_done(&argv);
	return r;
}

/* Bytes for a pipe as they are; for a terminal without what it would obey. */
static void print_from_guest(FILE *f, const char *text)
{
	bool terminal = isatty(fileno(f));

	for (; text && *text; text++) {
		bool control = (unsigned char)*text < ' ' && *text != '\n' && *text != '\t';

		fputc(terminal && (control || *text == 0x7f) ? '?' : *text, f);
	}
}

/* Run a program in the guest and show what it printed; its exit status in ret_status. */
static int exec_there(struct cvb_target *t, int argc, char **argv, int *ret_status,
		      struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	json_t *words = json_array();
	const json_t *status;
	int r;

	for (int i = 0; i < argc; i++)
		json_array_append_new(words, json_string(argv[i]));
	r = cvb_client_call(&t->client, "exec", json_pack("{s:o}", "argv", words), EXEC_TIMEOUT_MS,
			    &result, err);
	if (r < 0)
		return r;
	print_from_guest(stdout, json_string_value(json_object_get(result, "stdout")));
	print_from_guest(stderr, json_string_value(json_object_get(result, "stderr")));
	status = json_object_get(result, "status");
	if (!json_is_integer(status) || json_integer_value(status) < 0 ||
	    json_integer_value(status) > 255)
		return cvb_err_set(err, -EPROTO, "the guest sent no proper exit status");
	*ret_status = (int)json_integer_value(status);
	return 0;
}

static int run_in_guest(const struct cvb_arm *arm, int argc, char **argv, struct cvb_err *err)
{
	struct cvb_target_env env = {.label = arm->name};
	struct cvb_target *t = NULL;
	int status = 0, r;

	r = cvb_target_start(&t, arm, &env, err);
	if (r < 0)
		return r;
	cvb_info("guest of arm %s up after %.1f s under %s", arm->name, (double)t->boot_ns / 1e9,
		 cvb_accel_names[t->accel]);
	r = exec_there(t, argc, argv, &status, err);
	cvb_target_stop(t);
	if (r == 0 && status)
		return cvb_err_set(err, -ECHILD, "%s ended with status %d in the guest", argv[0],
				   status);
	return r;
}

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	struct cvb_profile *profile = NULL;
	const struct cvb_arm *arm = NULL;
	int r;

	(void)conf;
	if (argc >= 1 && strcmp(argv[0], "argv") != 0 && strcmp(argv[0], "run") != 0)
		return cvb_err_set(err, -EINVAL, "vm: unknown \"%s\": expected argv or run",
				   argv[0]);
	bool exec = argc >= 1 && !strcmp(argv[0], "run");
	/* `--` before the command is for the eye */
	int command = argc > 3 && !strcmp(argv[3], "--") ? 4 : 3;

	if (argc < 3 || (exec ? argc <= command : argc != 3))
		return cvb_err_set(err, -EINVAL,
				   "vm: expected argv PROFILE ARM, or run PROFILE ARM -- COMMAND…");
	r = load_arm(argv[1], argv[2], &profile, &arm, err);
	if (r == 0)
		r = exec ? run_in_guest(arm, argc - command, argv + command, err)
			 : print_argv(arm, err);
	cvb_profile_free(profile);
	return r;
}

static const struct cvb_verb verb = {
	.name = "vm",
	.usage = "argv PROFILE ARM | run PROFILE ARM -- COMMAND…",
	.summary = "print an arm's exact QEMU command line, or run a program in its guest",
	.order = 50,
	.own_options_end = true,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.run = run,
};
CVB_VERB(verb);
