# lb_flags: every warning and sanitizer flag lives here, once.
add_library(lb_flags INTERFACE)
target_compile_definitions(lb_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64)
target_compile_options(lb_flags INTERFACE
	-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wvla -Wundef
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
	-Wimplicit-fallthrough -Wswitch-enum -Wformat=2 -Wpointer-arith -Wwrite-strings
	-fno-common -fvisibility=hidden -fstack-protector-strong -fno-strict-aliasing)
if(CMAKE_C_COMPILER_ID STREQUAL "Clang")
	target_compile_options(lb_flags INTERFACE -Wconditional-uninitialized -Wcomma -Wassign-enum)
else()
	target_compile_options(lb_flags INTERFACE -Wlogical-op -Wduplicated-cond -Wduplicated-branches)
endif()
if(LB_WERROR)
	target_compile_options(lb_flags INTERFACE -Werror)
endif()
if(LB_ANALYZER)
	target_compile_options(lb_flags INTERFACE -fanalyzer)
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
function(lb_component name)
	cmake_parse_arguments(A "" "" "SOURCES;DEPS;LIBS" ${ARGN})
	if(A_SOURCES)
		list(TRANSFORM A_SOURCES PREPEND src/)
		add_library(${name} STATIC ${A_SOURCES})
		set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
		target_include_directories(${name} PUBLIC include PRIVATE src)
		target_link_libraries(${name} PUBLIC ${A_DEPS} PRIVATE lb_flags ${A_LIBS})
	else()
		add_library(${name} INTERFACE)
		target_include_directories(${name} INTERFACE include)
		target_link_libraries(${name} INTERFACE ${A_DEPS})
	endif()
endfunction()

# lb_program(lifeboatd siteagent/src/main_lifeboatd.c DEPS siteagent): built into build/<preset>/bin.
function(lb_program name source)
	cmake_parse_arguments(A "" "" "DEPS;LIBS" ${ARGN})
	add_executable(${name} ${source})
	target_link_libraries(${name} PRIVATE ${A_DEPS} ${A_LIBS} lb_flags)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

# lb_nbdkit_plugin(view src/plugin_view.c DEPS replicator): build/<preset>/bin/lifeboat-<name>-plugin.so
function(lb_nbdkit_plugin name source)
	cmake_parse_arguments(A "" "" "DEPS;LIBS" ${ARGN})
	add_library(plugin_${name} MODULE ${source})
	target_link_libraries(plugin_${name} PRIVATE ${A_DEPS} ${A_LIBS} lb_flags)
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
