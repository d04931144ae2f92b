from doeff.cesk import default_handlers, SyncRuntime
from my_package import MyEffect, handle_my_effect

def my_custom_handlers():
    # Start with standard handlers
    handlers = default_handlers()
    # Register your custom effect handler
    handlers[MyEffect] = handle_my_effect
    return handlers

# Initialize runtime with custom handlers
runtime = SyncRuntime(handlers=my_custom_handlers())

# Run your program
result = runtime.run(my_program())
