# lb_flags: every warning and sanitizer flag lives here, once. lb_flags_plain asks for no runtime library: for
# what is loaded into somebody else's program (lb_nbdkit_plugin).
add_library(lb_flags_common INTERFACE)
target_compile_definitions(lb_flags_common INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64 LB_VERSION="${PROJECT_VERSION}")
target_compile_options(lb_flags_common INTERFACE
	-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wvla -Wundef
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
	-Wimplicit-fallthrough -Wswitch-enum -Wformat=2 -Wpointer-arith -Wwrite-strings
	-fno-common -fvisibility=hidden -fstack-protector-strong -fno-strict-aliasing)
if(CMAKE_C_COMPILER_ID STREQUAL "Clang")
	target_compile_options(lb_flags_common INTERFACE -Wconditional-uninitialized -Wcomma -Wassign-enum)
else()
	# error texts and names are cut to their buffers on purpose
	target_compile_options(lb_flags_common INTERFACE -Wlogical-op -Wduplicated-cond -Wduplicated-branches
		-Wno-format-truncation -Wno-stringop-truncation)
endif()
if(LB_WERROR)
	target_compile_options(lb_flags_common INTERFACE -Werror)
endif()
if(LB_ANALYZER)
	target_compile_options(lb_flags_common INTERFACE -fanalyzer)
endif()
add_library(lb_flags INTERFACE)
target_link_libraries(lb_flags INTERFACE lb_flags_common)
add_library(lb_flags_plain INTERFACE)
target_link_libraries(lb_flags_plain INTERFACE lb_flags_common)
if(LB_SANITIZE MATCHES undefined)
	target_compile_options(lb_flags_plain INTERFACE -fsanitize=undefined -fsanitize-trap=undefined)
endif()
set(LB_INSTRUMENTED OFF)
if(LB_SANITIZE OR LB_FUZZ OR LB_COVERAGE)
	set(LB_INSTRUMENTED ON)
endif()
if(LB_SANITIZE)
	target_compile_options(lb_flags INTERFACE -fsanitize=${LB_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
	target_link_options(lb_flags INTERFACE -fsanitize=${LB_SANITIZE})
endif()
if(LB_COVERAGE)
	target_compile_options(lb_flags INTERFACE -fprofile-instr-generate -fcoverage-mapping)
	target_link_options(lb_flags INTERFACE -fprofile-instr-generate)
endif()
if(LB_FUZZ)
	target_compile_options(lb_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# lb_pkg(name pkgconfig-module): one imported target LB::name per outside library.
function(lb_pkg name module)
	pkg_check_modules(PC_${name} REQUIRED IMPORTED_TARGET GLOBAL ${module})
	add_library(LB::${name} ALIAS PkgConfig::PC_${name})
endfunction()

# lb_component(name SOURCES a.c b.c DEPS base imaging [LIBS LB::lz4])
# Public headers: <name>/include/<name>/*.h   Private: <name>/src/*.h
# DEPS are PUBLIC on purpose: what a component may include is what it links.
# Beside <name> there is always <name>_plain for lb_nbdkit_plugin: another name for it, or, where
# <name> is sanitized, the same sources compiled once more without (and only when a plugin needs them).
function(lb_component name)
	cmake_parse_arguments(A "" "" "SOURCES;DEPS;LIBS" ${ARGN})
	if(A_SOURCES)
		list(TRANSFORM A_SOURCES PREPEND src/)
		lb_static(${name} lb_flags "${A_SOURCES}" "${A_DEPS}" "${A_LIBS}")
		if(LB_INSTRUMENTED)
			lb_plain_names(plain_deps ${A_DEPS})
			lb_static(${name}_plain lb_flags_plain "${A_SOURCES}" "${plain_deps}" "${A_LIBS}")
			set_target_properties(${name}_plain PROPERTIES EXCLUDE_FROM_ALL ON)
		else()
			add_library(${name}_plain ALIAS ${name})
		endif()
	else()
		add_library(${name} INTERFACE)
		target_include_directories(${name} INTERFACE include)
		target_link_libraries(${name} INTERFACE ${A_DEPS})
		lb_plain_names(plain_deps ${A_DEPS})
		add_library(${name}_plain INTERFACE)
		target_include_directories(${name}_plain INTERFACE include)
		target_link_libraries(${name}_plain INTERFACE ${plain_deps})
	endif()
endfunction()

function(lb_static name flags sources deps libs)
	add_library(${name} STATIC ${sources})
	set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
	target_include_directories(${name} PUBLIC include PRIVATE src)
	target_link_libraries(${name} PUBLIC ${deps} PRIVATE ${flags} ${libs})
endfunction()

# Of each name the one without sanitizers, if it has one (components do, outside libraries do not).
function(lb_plain_names out)
	set(names "")
	foreach(name ${ARGN})
		if(TARGET ${name}_plain)
			list(APPEND names ${name}_plain)
		else()
			list(APPEND names ${name})
		endif()
	endforeach()
	set(${out} ${names} PARENT_SCOPE)
endfunction()

# lb_program(lifeboatd siteagent/src/main_lifeboatd.c DEPS siteagent): built into build/<preset>/bin.
function(lb_program name source)
	cmake_parse_arguments(A "" "" "DEPS;LIBS" ${ARGN})
	add_executable(${name} ${source})
	target_link_libraries(${name} PRIVATE ${A_DEPS} ${A_LIBS} lb_flags)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

# lb_nbdkit_plugin(view src/plugin_view.c DEPS replicator): build/<preset>/bin/lifeboat-<name>-plugin.so
#
# Runs under the distribution's plain nbdkit in every preset, with no LD_PRELOAD and no *SAN_OPTIONS:
# therefore it and the components in it are built without sanitizer runtimes. Measured with clang 14
# and nbdkit 1.32 (tests/e2e/test_plugin.c keeps it so): a plugin with -fsanitize=address does not load
# (undefined __asan_*); linked with -shared-libasan it ends nbdkit at dlopen ("ASan runtime does not come
# first"); it works with libclang_rt.asan preloaded, but then everybody who starts nbdkit, lifeboatd
# too, would have to know the preset. The same components run under sanitizers in the unit tests. Undefined behaviour is still caught where asked for: it traps (SIGILL), which needs no runtime.
function(lb_nbdkit_plugin name source)
	cmake_parse_arguments(A "" "" "DEPS;LIBS" ${ARGN})
	lb_plain_names(plain_deps ${A_DEPS})
	add_library(plugin_${name} MODULE ${source})
	target_link_libraries(plugin_${name} PRIVATE ${plain_deps} ${A_LIBS} lb_flags_plain)
	# NBDKIT_REGISTER_PLUGIN defines plugin_init() without a prototype. (By source: comes after lb_flags.)
	set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS -Wno-missing-prototypes)
	# Nothing of our libraries is visible outside, so it cannot meet another copy in the process.
	target_link_options(plugin_${name} PRIVATE -Wl,--exclude-libs,ALL)
	set_target_properties(plugin_${name} PROPERTIES PREFIX "" OUTPUT_NAME lifeboat-${name}-plugin
		LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

# lb_test(unit.err unit/test_err.c DEPS base [TIMEOUT s] [ARGS ...] [LIBS ...]): a cmocka program, exit 0
# pass, 77 skip. The label is the name up to the first dot.
function(lb_test test_name source)
	cmake_parse_arguments(A "" "TIMEOUT" "DEPS;ARGS;LIBS" ${ARGN})
	if(NOT A_TIMEOUT)
		set(A_TIMEOUT 60)
	endif()
	string(REPLACE "." "_" target ${test_name})
	string(REGEX REPLACE "\\..*" "" label ${test_name})
	add_executable(${target} ${source})
	target_link_libraries(${target} PRIVATE testlib ${A_DEPS} ${A_LIBS} lb_flags)
	add_test(NAME ${test_name} COMMAND ${target} ${A_ARGS})
	set_tests_properties(${test_name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${A_TIMEOUT} LABELS ${label})
endfunction()

# lb_fuzz(frame fuzz/fuzz_frame.c DEPS base): libFuzzer target under the fuzz preset, and
# in EVERY preset a regression test that replays fuzz/corpus/<name>/ through it.
function(lb_fuzz name source)
	cmake_parse_arguments(A "" "" "DEPS" ${ARGN})
	if(LB_FUZZ)
		add_executable(fuzz_${name} ${source})
		target_link_libraries(fuzz_${name} PRIVATE ${A_DEPS} lb_flags -fsanitize=fuzzer)
	else()
		add_executable(fuzz_${name} ${source} ${PROJECT_SOURCE_DIR}/tests/lib/fuzz_replay.c)
		target_link_libraries(fuzz_${name} PRIVATE ${A_DEPS} lb_flags)
	endif()
	file(GLOB corpus CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name}/*)
	if(NOT corpus)
		message(FATAL_ERROR "fuzz/corpus/${name} is empty")
	endif()
	add_test(NAME fuzz.${name}.replay COMMAND fuzz_${name} ${corpus})
	set_tests_properties(fuzz.${name}.replay PROPERTIES LABELS fuzz TIMEOUT 60)
endfunction()
