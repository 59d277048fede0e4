/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/fingerprint.h"

#include "core/file.h"
#include "core/util.h"
#include "machine/swiotlb.h"
#include "machine/tee.h"
#include "measure/memory.h"
#include "version.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

/* The flags that decide crypto and copy speed, or that tell what kind of guest this is. */
static const char *const interesting_flags[] = {
	"aes",		"pclmulqdq",   "avx2",		 "avx512f",	 "vaes",
	"vpclmulqdq",	"erms",	       "fsrm",		 "hypervisor",	 "tdx_guest",
	"sev",		"sev_es",      "sev_snp",	 "vmx",		 "svm",
	"constant_tsc", "nonstop_tsc", "tsc_known_freq", "tsc_reliable", "amx_tile"};

static char *cpuinfo_value(const char *key)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/cpuinfo", "re");
	_cleanup_free_ char *line = NULL;
	size_t room = 0, len = strlen(key);

	while (f && getline(&line, &room, f) > 0) {
		char *colon = strchr(line, ':');

		if (strncmp(line, key, len) != 0 || !colon ||
		    strspn(line + len, " \t") != (size_t)(colon - line) - len)
			continue;
		colon += 1 + strspn(colon + 1, " \t");
		colon[strcspn(colon, "\n")] = '\0';
		return strdup(colon);
	}
	return NULL;
}

static bool has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = words; p && (p = strstr(p, word)); p += len) {
		if ((p == words || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0'))
			return true;
	}
	return false;
}

bool cvb_cpu_has_flag(const char *flag)
{
	_cleanup_free_ char *flags = cpuinfo_value("flags");

	return flags && has_word(flags, flag);
}

bool cvb_cpu_has_virt(void)
{
	return cvb_cpu_has_flag("vmx") || cvb_cpu_has_flag("svm");
}

/* Set a key from the first line of a file; left out when the file is not there. */
static void set_line(json_t *obj, const char *key, const char *path)
{
	char text[4096];

	if (cvb_file_read_line(path, text, sizeof(text)) == 0)
		json_object_set_new(obj, key, json_string(text));
}

static void set_u64(json_t *obj, const char *key, const char *path)
{
	uint64_t v;

	if (cvb_file_read_u64(path, &v) == 0)
		json_object_set_new(obj, key, json_integer((json_int_t)v));
}

static json_t *cpu_json(void)
{
	json_t *cpu = json_object(), *flags = json_array(), *caches = json_object();
	_cleanup_free_ char *model = cpuinfo_value("model name");
	_cleanup_free_ char *vendor = cpuinfo_value("vendor_id");
	_cleanup_free_ char *words = cpuinfo_value("flags");
	_cleanup_free_ char *mhz = cpuinfo_value("cpu MHz");

	json_object_set_new(cpu, "model", json_string(model ? model : "unknown"));
	json_object_set_new(cpu, "vendor", json_string(vendor ? vendor : "unknown"));
	json_object_set_new(cpu, "logical", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	if (mhz)
		json_object_set_new(cpu, "mhz_now", json_real(strtod(mhz, NULL)));
	for (size_t i = 0; words && i < CVB_ARRAY_LEN(interesting_flags); i++)
		if (has_word(words, interesting_flags[i]))
			json_array_append_new(flags, json_string(interesting_flags[i]));
	json_object_set_new(cpu, "flags", flags);
	for (unsigned level = 1; level <= 4; level++) {
		uint64_t bytes = cvb_cache_bytes(level);
		char key[8];

		snprintf(key, sizeof(key), "l%u", level);
		if (bytes)
			json_object_set_new(caches, key, json_integer((json_int_t)bytes));
	}
	json_object_set_new(cpu, "cache_bytes", caches);
	set_line(cpu, "governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
	return cpu;
}

static json_t *memory_json(void)
{
	json_t *mem = json_object();
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	if (pages > 0 && page > 0)
		json_object_set_new(mem, "total_bytes", json_integer((json_int_t)pages * page));
	set_line(mem, "thp", "/sys/kernel/mm/transparent_hugepage/enabled");
	set_u64(mem, "huge_2m_pages", "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	return mem;
}

static unsigned numa_nodes(void)
{
	unsigned n = 0;
	char path[64];

	do
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u", n);
	while (access(path, F_OK) == 0 && ++n < 1024);
	return n;
}

static char *os_name(void)
{
	_cleanup_fclose_ FILE *f = fopen("/etc/os-release", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "PRETTY_NAME=\"", 13) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		size_t len = strlen(line + 13);

		if (len && line[13 + len - 1] == '"')
			line[13 + len - 1] = '\0';
		return strdup(line + 13);
	}
	return NULL;
}

json_t *cvb_fingerprint(void)
{
	json_t *env = json_object();
	_cleanup_free_ char *os = os_name();
	struct utsname u;
	char hypervisor[16];

	if (os)
		json_object_set_new(env, "os", json_string(os));
	if (uname(&u) == 0) {
		json_object_set_new(env, "kernel", json_string(u.release));
		json_object_set_new(env, "kernel_build", json_string(u.version));
		json_object_set_new(env, "arch", json_string(u.machine));
	}
	set_line(env, "cmdline", "/proc/cmdline");
	json_object_set_new(env, "cpu", cpu_json());
	json_object_set_new(env, "memory", memory_json());
	json_object_set_new(env, "numa_nodes", json_integer(numa_nodes()));
	json_object_set_new(env, "hypervisor",
			    json_string(cvb_hypervisor(hypervisor, sizeof(hypervisor))));
	json_object_set_new(env, "tee", cvb_tee_json());
	json_object_set_new(env, "swiotlb", cvb_swiotlb());
	set_line(env, "clocksource",
		 "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	return env;
}

json_t *cvb_tool_json(void)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "name", "cvmbench", "version", CVB_VERSION, "git",
			 CVB_GIT_ID, "compiler",
#ifdef __clang__
			 "clang " __clang_version__
#else
			 "gcc " __VERSION__
#endif
	);
}
