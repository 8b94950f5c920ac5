find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME lint.layers COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check-layers.py ${PROJECT_SOURCE_DIR})
set_tests_properties(lint.layers PROPERTIES LABELS lint)
add_test(NAME lint.banned COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check-banned.py ${PROJECT_SOURCE_DIR})
set_tests_properties(lint.banned PROPERTIES LABELS lint)
add_test(NAME lint.messages COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check-po.py
	${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_BINARY_DIR}/po)
set_tests_properties(lint.messages PROPERTIES LABELS lint)
add_test(NAME lint.claims COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check-claims.py
	${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(lint.claims PROPERTIES LABELS lint)
