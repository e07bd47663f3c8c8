// What runs in the worker.

import { serve } from "./serve.js";

serve(self);
